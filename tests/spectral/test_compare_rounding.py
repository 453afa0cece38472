"""What rounding makes two tuned models share, and what is kept out of the comparison."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from idim.spectral.comparison.compare import compare
from idim.spectral.comparison.update import update_of
from idim.spectral.pairing.delta import Delta

SHAPE = (400, 300)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*(shape or SHAPE), generator=torch.Generator().manual_seed(seed))


def saved(base: Tensor, change: Tensor, dtype: torch.dtype) -> Delta:
    shape = tuple(base.shape)
    matrix = (shape[0], shape[1]) if len(shape) == 2 else None
    return Delta(name="w", shape=shape, matrix=matrix, base=base, tuned=(base.float() + change).to(dtype))


def independent(size: float, base: Tensor, dtype: torch.dtype) -> tuple[Delta, Delta]:
    return saved(base, size * normal(1), dtype), saved(base, size * normal(2), dtype)


def test_a_cast_is_no_update() -> None:
    base = 0.02 * normal(0)
    found = compare(*independent(0.0, base, torch.bfloat16))
    assert (found.norm_a, found.norm_b, found.left, found.cosine) == (0.0, 0.0, None, None)
    assert found.why == "the first and second update is zero"
    vector = saved(base[0], torch.zeros(300), torch.float16)
    assert compare(vector, vector).norm_a == 0.0


@pytest.mark.parametrize("size", [2e-6, 2e-5, 6e-5, 2e-4])
def test_unrelated_changes_saved_in_bfloat16(size: float) -> None:
    """The figures of the table in the docstring of ``update``: at most 0.3 where the stored differences have 0.9."""
    a, b = independent(size, 0.02 * normal(0), torch.bfloat16)
    raw = torch.nn.functional.cosine_similarity(a.difference().flatten(), b.difference().flatten(), dim=0)
    found = compare(a, b)
    assert found.cosine is not None
    expected = {2e-6: (0.907, 0.287), 2e-5: (0.276, 0.198), 6e-5: (0.010, 0.069), 2e-4: (-0.001, 0.002)}[size]
    assert (float(raw), found.cosine) == pytest.approx(expected, abs=0.025)
    assert bool(found.note) == (size < 1e-4)


def test_weights_kept_still_are_counted() -> None:
    base = 0.02 * normal(0)
    delta = saved(base, 2e-5 * normal(1), torch.bfloat16)
    update = update_of(delta)
    assert delta.tuned is not None
    still = delta.tuned == base.bfloat16()
    assert update.still == pytest.approx(float(still.float().mean()))
    assert isinstance(update.change, Tensor)
    assert not update.change[still].any()
    assert torch.equal(update.change[~still], delta.difference()[~still])


def test_bfloat16_numbers_in_a_float32_file() -> None:
    base = 0.02 * normal(0)
    narrow = saved(base, 2e-5 * normal(1), torch.bfloat16)
    assert narrow.tuned is not None
    wide = Delta(name="w", shape=SHAPE, matrix=SHAPE, base=base, tuned=narrow.tuned.float())
    one, other = update_of(narrow), update_of(wide)
    assert isinstance(one.change, Tensor)
    assert isinstance(other.change, Tensor)
    assert torch.equal(one.change, other.change)
    assert one.still == other.still > 0.5


@pytest.mark.parametrize(("base", "tuned"), [("bfloat16", "bfloat16"), ("bfloat16", "float32"), ("float32", "float32")])
def test_a_base_on_the_grid_of_the_tuned_numbers_is_left_alone(base: str, tuned: str) -> None:
    weights = (0.02 * normal(0)).to(getattr(torch, base))
    a, b = independent(2e-5, weights, getattr(torch, tuned))
    update, found = update_of(a), compare(a, b)
    assert update.still == 0.0
    assert isinstance(update.change, Tensor)
    assert torch.equal(update.change, a.difference())
    assert (found.cosine, found.note) == (pytest.approx(0.0, abs=0.02), "")


def test_what_two_models_share_is_still_found() -> None:
    base, common = 0.02 * normal(0), normal(3, 400, 3) @ normal(4, 3, 300) / 3**0.5
    a, b = (saved(base, 6e-5 * (common + 0.3 * normal(seed)), torch.bfloat16) for seed in (5, 6))
    left = compare(a, b, k=3).left
    assert left is not None
    assert left.overlap > 0.95
    assert left.shared == 3
