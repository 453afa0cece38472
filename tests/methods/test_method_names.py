"""Names of methods: one way to write each, and clear refusals."""

from __future__ import annotations

import pytest
import torch

from idim import methods, models
from idim.errors import RequestError
from idim.methods import Setting

SETTING = Setting(seed=0, steps=10)


@pytest.mark.parametrize("name", sorted(methods.METHODS))
def test_a_method_writes_itself_as_it_is_read(name: str) -> None:
    assert methods.canonical(name) == name
    assert methods.parse(methods.canonical(name)) == methods.parse(name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fulll", "did you mean 'full'"),
        ("full:", "full:OPTION=VALUE"),
        ("full:rank=3", "unknown option of method 'full' 'rank'"),
        ("full+full", "once each"),
        ("full+", "unknown method ''"),
    ],
)
def test_bad_names_are_one_clear_line(name: str, words: str) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        methods.parse(name)
    assert "\n" not in str(caught.value)


def test_full_tuning_moves_all_and_gives_the_start_back() -> None:
    model = models.build("mlp:8", input_shape=(4,), outputs=2, seed=0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    attached = methods.attach(methods.parse("full"), model, SETTING)
    assert all(p.requires_grad for p in model.parameters())
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1)
    assert attached.merge() is model
    attached.detach()
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name])
