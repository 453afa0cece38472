"""Grids against torch's own formats; the law of rounding errors against rounded numbers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from idim.spectral.noise.rounding import loss, moments
from idim.spectral.reading.grids import FORMATS, grid_of

NARROW = [dtype for dtype in FORMATS if dtype != torch.float64]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("dtype", NARROW, ids=str)
@settings(max_examples=60, deadline=None)
@given(st.floats(-200, 200) | st.floats(-1e-4, 1e-4) | st.floats(-1e-9, 1e-9))
def test_rounding_is_that_of_torch(dtype, x):
    single = torch.tensor([x], dtype=torch.float32)
    expected = single.to(dtype).double()
    assert torch.equal(FORMATS[dtype].round(single.double()).abs(), expected.abs())


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_spacing_is_the_distance_to_the_next_number(dtype):
    grid = FORMATS[dtype]
    x = (10 * normal(300)).float().to(dtype).double()
    unit = grid.spacing(x)
    assert torch.equal(grid.round(x + 0.4 * x.sign() * unit), x)
    assert bool((grid.round(x + x.sign() * 0.6 * unit) != x).all())
    assert torch.equal(grid.spacing(x.float()).double(), unit)


def test_spacing_below_the_normal_range_is_constant():
    tiny = torch.tensor([0.0, 6e-8, 1e-6, 5e-5], dtype=torch.float64)
    assert torch.equal(FORMATS[torch.float16].spacing(tiny), torch.full((4,), 2.0**-24, dtype=torch.float64))


def test_a_coarser_grid_is_found_under_a_wider_format():
    weights = 0.02 * normal(40, 30).float()
    assert grid_of(weights).name == "float32"
    assert grid_of(weights.bfloat16().float()).name == "bfloat16"
    assert grid_of(weights.half().float()).name == "float16"
    assert grid_of(weights.double()).name == "float32"
    assert grid_of(weights.bfloat16().double()).name == "bfloat16"
    almost = weights.bfloat16().float()
    almost[7, 7] = 0.1
    assert grid_of(almost).name == "float32"


@pytest.mark.parametrize("plain", [torch.zeros(20, 20), torch.ones(20, 20), torch.eye(30)])
def test_plain_numbers_say_nothing_about_a_grid(plain):
    assert grid_of(plain).name == "float32"


def test_grids_within_grids():
    bf16, fp16, single = (FORMATS[d] for d in (torch.bfloat16, torch.float16, torch.float32))
    assert bf16.within(single)
    assert fp16.within(single)
    assert not single.within(bf16)
    assert not bf16.within(fp16)
    assert not fp16.within(bf16)


@pytest.mark.parametrize("x", [0.12, 0.2, 0.3, 0.52, 1.0, 3.0, 3.999, 4.001, 10.0, 1e6])
def test_moments_are_those_of_rounded_normal_numbers(x):
    drawn = x * normal(400_000).numpy()
    rounded = np.round(drawn)
    found = moments(np.array(x))
    for value, sample in (
        (found.square, rounded**2),
        (found.product, rounded * drawn),
        (found.zero, (rounded == 0).astype(float)),
    ):
        assert abs(value - sample.mean()) < 5 * sample.std() / len(sample) ** 0.5 + 1e-6


@pytest.mark.parametrize(("x", "gain"), [(0.52, 0.99), (0.263, 0.5), (0.15, 0.02)])
def test_gain_falls_quickly_below_half_a_spacing(x, gain):
    assert float(moments(np.array(x)).product) / x**2 == pytest.approx(gain, abs=0.012)


@pytest.mark.parametrize(("relative", "share"), [(1e-4, 0.98), (1e-3, 0.79), (1e-2, 0.17)])
def test_the_error_is_known_from_what_is_left_of_the_change(relative, share):
    base = (0.02 * normal(400, 300)).bfloat16()
    change = relative * 0.02 * normal(400, 300, seed=1)
    grid = FORMATS[torch.bfloat16]
    tuned = grid.round(base.double() + change)
    shown = tuned - base.double()
    lost = loss(grid.spacing(tuned).flatten().numpy()[::7], float(shown.square().mean()))
    error = float((shown - change).norm() / change.norm())
    assert lost.error / lost.scale == pytest.approx(error, abs=0.01)
    assert error == pytest.approx(share, abs=0.02)
    assert lost.scale == pytest.approx(relative * 0.02, rel=0.05)
    assert lost.gain == pytest.approx(float((shown * change).sum() / change.square().sum()), abs=0.02)
    assert lost.zero == pytest.approx(float((shown == 0).double().mean()), abs=0.02)
    spread = (shown - lost.gain * change).norm() / 120_000**0.5
    assert lost.spread == pytest.approx(float(spread), rel=0.03)
