"""Few levels for many numbers: planted clusters, brute force, and what is refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from idim.errors import RequestError
from idim.theory.quantise import LARGEST, lloyd, nearest, quantise, rounded


def normal(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed))


def test_planted_clusters_are_found() -> None:
    centres = torch.tensor([-3.0, -0.5, 0.0, 8.0])
    which = torch.arange(400) % 4
    found = quantise(centres[which] + 0.01 * normal(400), 4)
    assert torch.equal(found.codes, which)
    assert torch.allclose(found.levels, centres, atol=0.01)
    assert found.counts == [100] * 4


@given(st.lists(st.floats(-10, 10, width=16), min_size=1, max_size=60), st.integers(1, 9))
@settings(max_examples=60)
def test_every_number_has_its_nearest_level_and_every_level_a_number(values: list[float], levels: int) -> None:
    x = torch.tensor(values)
    found = quantise(x, levels)
    away = (x[:, None].double() - found.levels.double()).abs()
    assert torch.equal(away.gather(1, found.codes[:, None])[:, 0], away.min(dim=1).values)
    assert len(found.levels) <= levels
    assert min(found.counts) >= 1
    assert torch.equal(found.levels.half().float(), found.levels)
    assert bool((found.levels.diff() > 0).all())


def test_levels_are_the_means_of_their_numbers() -> None:
    x = normal(1000)
    levels = lloyd(x, 6)
    codes = nearest(x.double(), levels)
    assert torch.allclose(levels, torch.stack([x[codes == i].double().mean() for i in range(6)]), atol=2e-3)


def test_more_levels_lose_less() -> None:
    x = normal(2000)
    lost = [float((quantise(x, levels).values - x).square().mean()) for levels in (1, 2, 3, 5, 9, 17, 65)]
    assert lost == sorted(lost, reverse=True)
    assert lost[1] == pytest.approx(1 - 2 / torch.pi, abs=0.04)  # of a normal variable, Max 1960
    assert lost[-1] < 0.01


def test_the_same_numbers_give_the_same_codes() -> None:
    one, two = quantise(normal(500), 7), quantise(normal(500), 7)
    assert torch.equal(one.codes, two.codes)
    assert torch.equal(one.levels, two.levels)


def test_numbers_beyond_float16_end_at_its_largest() -> None:
    assert rounded(torch.tensor([1e9, -1e9]), torch.tensor([1e9, -1e9])).levels.tolist() == [-LARGEST, LARGEST]


@pytest.mark.parametrize(
    ("values", "levels", "said"),
    [([1.0], 0, "received 0"), ([float("nan")], 2, "finite"), ([float("inf")], 2, "finite")],
)
def test_what_is_refused(values: list[float], levels: int, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        quantise(torch.tensor(values), levels)
