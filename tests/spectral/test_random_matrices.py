"""Edges of noise against published quantiles, simulations and closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from idim.spectral.noise import random_matrices as rm


def top(variances, generator):
    """The largest singular value of uniform entries with these variances."""
    return np.linalg.norm(generator.uniform(-1, 1, variances.shape) * np.sqrt(3 * variances), 2)


@pytest.mark.parametrize(("rate", "quantile"), [(0.1, 0.4501), (0.05, 0.9793), (0.01, 2.0234), (0.001, 3.2724)])
def test_tracy_widom_quantiles_are_the_tabulated_ones(rate, quantile):
    assert rm.tracy_widom_quantile(rate) == pytest.approx(quantile, abs=0.03)


def test_tracy_widom_mean():
    assert pytest.approx(-1.2065, abs=1e-3) == rm.TRACY_WIDOM_MEAN


@pytest.mark.parametrize("shape", [(200, 100), (60, 60), (20, 150)])
def test_gaussian_noise_exceeds_its_edge_at_the_stated_rate(shape):
    generator = np.random.default_rng(0)
    tops = np.array([np.linalg.norm(generator.standard_normal(shape), 2) for _ in range(600)])
    # 600 draws at 5 %: three standard errors are 2.7 %
    assert abs((tops > rm.edge(*shape, 0.05)).mean() - 0.05) < 0.027


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 3), (3, 2), (5, 5), (10, 40)])
def test_small_rounding_noise_exceeds_its_edge_no_more_often(shape):
    generator = np.random.default_rng(1)
    tops = np.array([top(np.ones(shape), generator) for _ in range(1000)])
    assert (tops > rm.edge(*shape, 0.05)).mean() < 0.07


def test_equal_variances_have_the_edge_of_marchenko_and_pastur():
    rows, columns = np.full(500, 300.0), np.full(300, 500.0)
    assert rm.product_edge(np.full(500, 1.0), np.full(300, 1.0)) == pytest.approx((500**0.5 + 300**0.5) ** 2, rel=1e-4)
    assert rm.profile_edge(rows, columns, 0.01) == pytest.approx(rm.edge(500, 300, 0.01))
    assert rm.profile_edge(4 * rows, 4 * columns, 0.01) == pytest.approx(2 * rm.edge(500, 300, 0.01))


def test_the_edge_of_two_groups_of_rows_is_that_of_their_equations():
    """With rows of variance 1 and 9, and equal columns, p can be eliminated: x is a rational function of q."""
    m, n = 150, 300
    found = rm.product_edge(np.repeat([1.0, 9.0], [m, m]), np.ones(n))
    # x = n/q + sum_i a_i/(1 - a_i q) is the known inverse of the Stieltjes transform of a covariance spectrum
    q = np.linspace(1e-4, 1 / 9 - 1e-4, 200_000)
    assert found == pytest.approx((n / q + m / (1 - q) + 9 * m / (1 - 9 * q)).min(), rel=1e-2)


@pytest.mark.parametrize("spread", [0.1, 0.5, 1.0])
def test_uneven_rows_and_columns_exceed_their_edge_rarely_and_come_near(spread):
    generator = np.random.default_rng(2)
    variances = np.outer(*(np.exp(spread * generator.standard_normal(size)) for size in (150, 100)))
    tops = np.array([top(variances, generator) for _ in range(150)])
    edge = rm.profile_edge(variances.sum(1), variances.sum(0), 0.05)
    assert (tops > edge).mean() < 0.1
    assert tops.mean() > 0.85 * edge


def test_irregular_entries_have_the_edge_of_their_sums():
    generator = np.random.default_rng(3)
    variances = 4.0 ** np.floor(np.log2(np.abs(generator.standard_normal((200, 150)))))
    tops = np.array([top(variances, generator) for _ in range(150)])
    edge = rm.profile_edge(variances.sum(1), variances.sum(0), 0.05)
    assert (tops > edge).mean() < 0.1
    assert tops.mean() > 0.95 * edge


def test_one_large_entry_raises_the_edge():
    generator = np.random.default_rng(4)
    variances = np.ones((100, 100))
    variances[0, 0] = 1600
    bulk = rm.edge(100, 100, 0.01)
    edge = rm.with_outlier(bulk, np.sqrt(3 * 1600), 100, 100, 1.0)
    assert max(top(variances, generator) for _ in range(100)) < edge
    assert edge > 3 * bulk
    assert rm.with_outlier(bulk, 5.0, 100, 100, 1.0) == bulk  # below √n it is lost in the bulk


def test_no_variance_has_no_edge():
    assert rm.profile_edge(np.zeros(4), np.zeros(3), 0.01) == 0.0
    assert rm.profile_edge(np.array([2.0]), np.array([2.0]), 0.01) >= 2**0.5


@pytest.mark.parametrize(("shape", "expected"), [((100, 100), 2.8582), ((200, 100), 2.1711), ((1000, 100), 1.6089)])
def test_hard_threshold_is_the_published_one(shape, expected):
    """Gavish and Donoho's ω(β): 2.8582 for square matrices, by their formulas for β = 1/2 and 1/10."""
    assert rm.hard_threshold(*shape) == pytest.approx(expected, abs=5e-3)


@pytest.mark.parametrize("shape", [(300, 300), (400, 100), (60, 300)])
def test_bulk_is_that_of_simulated_noise(shape):
    values = np.linalg.svd(np.random.default_rng(5).standard_normal(shape), compute_uv=False)
    assert rm.median(*shape) == pytest.approx(np.median(values), rel=0.03)
    for level in np.quantile(values, [0.1, 0.5, 0.9]):
        assert rm.bulk_above(level, *shape) == pytest.approx((values > level).mean(), abs=0.02)
    assert rm.bulk_above(0.0, *shape) == 1.0
    assert rm.bulk_above(2 * values[0], *shape) == 0.0


@given(st.integers(2, 500), st.integers(2, 500), st.floats(1.05, 50), st.floats(1e-3, 1e3))
def test_a_direction_comes_back_from_the_noise_it_stands_on(m, n, strength, variance):
    d = strength * (variance * (m * n) ** 0.5) ** 0.5
    seen = np.sqrt((d**2 + m * variance) * (d**2 + n * variance)) / d
    assert rm.unshrunk(np.array([seen]), m, n, variance)[0] == pytest.approx(d, rel=1e-4)
    assert rm.unshrunk(np.array([0.9 * rm.asymptotic_edge(m, n, variance=variance)]), m, n, variance)[0] == 0


def test_effective_number():
    assert rm.effective(np.full(7, 3e-300)) == pytest.approx(7)
    assert rm.effective(np.array([1.0, 1.0, 0.0])) == pytest.approx(2)
    assert rm.effective(np.zeros(3)) == 0
