"""One pass over a pair against whole matrices."""

import numpy as np
import pytest
import torch

from idim.errors import RequestError
from idim.spectral.decomposition import deflate, scan
from idim.spectral.reading.grids import FORMATS


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(scan, "BLOCK_ENTRIES", 50)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("shape", [(40, 12), (12, 40), (7, 7), (1, 30), (30, 1), (1, 1)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_sums_are_those_of_the_whole(shape, dtype):
    base, tuned = normal(*shape, dtype=dtype), normal(*shape, seed=1, dtype=dtype)
    tuned.double()
    tuned[0] = base[0]
    found = scan.scan(base, tuned)
    before, after = scan.upright(base.double()).numpy(), scan.upright(tuned.double()).numpy()
    change = after - before
    assert found.shape == change.shape
    np.testing.assert_allclose(found.gram, change.T @ change, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.change.rows, (change**2).sum(1), atol=1e-12)
    np.testing.assert_allclose(found.change.columns, (change**2).sum(0), atol=1e-12)
    assert found.base_square == pytest.approx((before**2).sum(), rel=1e-5)
    assert found.unchanged == int((change == 0).sum())
    spacing = FORMATS[dtype].spacing(scan.upright(tuned).double()).numpy() ** 2
    np.testing.assert_allclose(found.tuned_spacing.rows, spacing.sum(1), rtol=1e-5)
    np.testing.assert_allclose(found.tuned_spacing.columns, spacing.sum(0), rtol=1e-5)
    np.testing.assert_allclose(found.moved_spacing.rows, (spacing * (change != 0)).sum(1), rtol=1e-5)
    np.testing.assert_allclose(found.moved_spacing.columns, (spacing * (change != 0)).sum(0), rtol=1e-5)
    assert found.largest_spacing == pytest.approx(spacing.max() ** 0.5)
    assert found.support == (int((change != 0).any(1).sum()), int((change != 0).any(0).sum()))


def test_the_difference_is_exact():
    base = torch.tensor([[1.0, 1e-8, 3.0]])
    tuned = torch.tensor([[1.0 + 2**-23, 1.0, -1e-9]])
    found = scan.scan(base, tuned)
    change = tuned.double() - base.double()
    np.testing.assert_array_equal(found.change.rows, change.square().numpy().ravel())


def test_a_base_on_a_coarser_grid_has_spacings_of_its_own():
    tuned = normal(30, 20)
    coarse = scan.scan(tuned.bfloat16(), tuned)
    assert coarse.base_spacing is not None
    expected = FORMATS[torch.bfloat16].spacing(tuned.bfloat16().double()).square().sum(1)
    np.testing.assert_allclose(coarse.base_spacing.rows, expected)
    assert scan.scan(tuned, tuned.bfloat16()).base_spacing is None
    assert scan.scan(tuned, tuned + 1).base_spacing is None


def test_a_cast_changes_nothing():
    base = normal(30, 20)
    found = scan.scan(base, base.bfloat16())
    assert found.unchanged == found.size == 600
    assert found.change.total > 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_named(bad):
    tuned = normal(5, 4)
    tuned[2, 3] = bad
    with pytest.raises(RequestError, match=r"NaN or infinity in 'layer\.weight'"):
        scan.scan(normal(5, 4), tuned, name="layer.weight")


def test_weights_far_from_one_keep_their_spacings():
    tuned = 1e-30 * normal(20, 10)
    found = scan.scan(torch.zeros(20, 10), tuned)
    spacing = FORMATS[torch.float32].spacing(tuned).double() ** 2
    np.testing.assert_allclose(found.tuned_spacing.total, float(spacing.sum()), rtol=1e-5)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("shape", [(60, 40), (40, 60)])
def test_deflation_reaches_below_the_round_off_of_the_gram_matrix(shape):
    change = normal(*shape, dtype=torch.float64)
    left, _, right = torch.linalg.svd(change, full_matrices=False)
    values = torch.cat([torch.tensor([1.0, 0.7, 0.5], dtype=torch.float64), 1e-10 * torch.arange(37, 0, -1).double()])
    tuned, base = (left * values) @ right, torch.zeros(shape, dtype=torch.float64)
    found = scan.scan(base, tuned)
    coarse = deflate.resolve(found, base, tuned, edge=1e-3, energy=1e-6, seed=0)
    fine = deflate.resolve(found, base, tuned, edge=1e-8, energy=1e-17, seed=0)
    exact = torch.linalg.svdvals(tuned).numpy()
    assert (coarse.method, fine.method) == ("gram", "gram, deflated")
    assert np.abs(fine.values - exact).max() <= fine.error_bound < 1e-13
    assert np.abs(coarse.values - exact).max() <= coarse.error_bound
    assert fine.above(1e-8) == 3
    assert fine.beyond(3) == pytest.approx(float((exact[3:] ** 2).sum()), rel=1e-6)


def test_a_short_side_that_is_long_gives_the_leading_values(monkeypatch):
    monkeypatch.setattr(scan, "LARGEST_GRAM", 30)
    monkeypatch.setattr(deflate, "LEADING", 10)
    base = normal(60, 40)
    tuned = base + normal(60, 3, seed=1) @ normal(3, 40, seed=2)
    found = scan.scan(base, tuned)
    assert found.gram is None
    spectrum = deflate.resolve(found, base, tuned, edge=1e-3, energy=1e-4, seed=0)
    exact = torch.linalg.svdvals(tuned.double() - base.double()).numpy()
    assert (spectrum.complete, len(spectrum.values)) == (False, 10)
    np.testing.assert_allclose(spectrum.values[:3], exact[:3], atol=spectrum.error_bound)
    assert spectrum.energy == pytest.approx(float((exact**2).sum()))
