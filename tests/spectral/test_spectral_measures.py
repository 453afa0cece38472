"""Sizes of spectra: identities, invariances, closed forms, and the counts against noise levels."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idim.errors import RequestError
from idim.spectral.judgement.measures import ZERO, measure, residual_curve
from idim.spectral.noise import random_matrices

# singular values over twelve orders of magnitude, many or few, some zero
spectra = st.lists(st.floats(1e-9, 1e3) | st.just(0.0), min_size=1, max_size=40).map(
    lambda values: np.sort(np.array([*values, 1.0]))[::-1]
)


def of(values, **options):
    return measure(values, (len(values), len(values)), **options)


@given(spectra)
def test_sizes_are_ordered_like_renyi_entropies(values):
    sizes = of(values)
    slack = 1 + 1e-9
    assert 1 / slack <= sizes.stable_rank <= sizes.participation_ratio * slack
    assert sizes.participation_ratio <= sizes.effective_rank * slack
    assert sizes.effective_rank <= np.count_nonzero(values) * slack
    assert 1 <= sizes.energy_rank_90 <= sizes.energy_rank_95 <= sizes.energy_rank_99 <= np.count_nonzero(values)


@given(spectra.filter(lambda v: v[v > 0][-1] > 1e-6 * v[0]))
def test_sizes_are_at_most_the_matrix_rank_where_round_off_hides_nothing(values):
    sizes = of(values)
    assert sizes.matrix_rank == np.count_nonzero(values)
    assert sizes.effective_rank <= sizes.matrix_rank * (1 + 1e-9)


@given(spectra, st.floats(1e-6, 1e6))
def test_ratios_do_not_change_with_scale(values, scale):
    one, other = of(values), of(values * scale)
    for name in ("stable_rank", "participation_ratio", "effective_rank"):
        assert getattr(other, name) == pytest.approx(getattr(one, name), rel=1e-9)
    assert other.spectral_norm == pytest.approx(scale * one.spectral_norm)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 10**6))
def test_sizes_do_not_change_with_rotation(m, n, seed):
    generator = np.random.default_rng(seed)
    matrix = generator.standard_normal((m, n)) * generator.exponential(size=(m, 1))
    turn = np.linalg.qr(generator.standard_normal((m, m)))[0]
    one = measure(np.linalg.svd(matrix, compute_uv=False), (m, n))
    other = measure(np.linalg.svd(turn @ matrix, compute_uv=False), (m, n))
    for name in ("stable_rank", "participation_ratio", "effective_rank", "spectral_norm", "nuclear_norm"):
        assert getattr(other, name) == pytest.approx(getattr(one, name), rel=1e-9)
    assert (one.matrix_rank, one.energy_rank_99) == (other.matrix_rank, other.energy_rank_99)


@given(st.integers(1, 60), st.integers(0, 40), st.floats(1e-5, 1e5))
def test_a_flat_spectrum_of_r_values_has_r_directions(r, zeros, scale):
    sizes = of(np.concatenate([np.full(r, scale), np.zeros(zeros)]))
    for name in ("stable_rank", "participation_ratio", "effective_rank"):
        assert getattr(sizes, name) == pytest.approx(r)
    assert sizes.matrix_rank == sizes.numerical_rank == r
    assert (sizes.energy_rank_90, sizes.energy_rank_99) == (math.ceil(0.9 * r), math.ceil(0.99 * r))


def test_measures_by_hand():
    sizes = of(np.array([2.0, 1.0, 1.0, 0.0]))
    assert sizes.stable_rank == pytest.approx(6 / 4)
    assert sizes.participation_ratio == pytest.approx(36 / 18)
    assert sizes.effective_rank == pytest.approx(math.exp(-(2 / 3 * math.log(2 / 3) + 2 / 6 * math.log(1 / 6))))
    assert (sizes.energy_rank_90, sizes.nuclear_norm, sizes.matrix_rank) == (3, 4.0, 3)


def test_numerical_rank_counts_what_is_above_the_noise():
    values = np.array([5.0, 3.0, 1.0, 0.1, 0.01])
    assert of(values, noise_edge=0.5).numerical_rank == 3
    assert of(values, noise_edge=0.5).matrix_rank == 5
    assert of(values, error_bound=0.05).matrix_rank == 4


def test_leading_values_leave_open_what_needs_them_all():
    values = np.array([3.0, 2.0, 1.0])
    sizes = measure(values, (100, 50), energy=20.0)
    assert sizes.stable_rank == pytest.approx(20 / 9)
    assert (sizes.effective_rank, sizes.participation_ratio, sizes.spikes, sizes.matrix_rank) == (None,) * 4
    assert sizes.energy_rank_90 is None  # 14 of 20 are known
    assert measure(values, (100, 50), energy=15.0).energy_rank_90 == 3
    assert measure(values, (100, 50), energy=20.0, noise_edge=1.5).numerical_rank == 2
    assert sizes.numerical_rank is None  # there may be more


def test_spikes_stand_on_independent_noise():
    generator = np.random.default_rng(3)
    left, right = (np.linalg.qr(generator.standard_normal((size, 5)))[0] for size in (300, 200))
    matrix = generator.standard_normal((300, 200)) + 80 * left @ right.T
    sizes = measure(np.linalg.svd(matrix, compute_uv=False), (300, 200))
    assert sizes.spikes == sizes.gavish_donoho_rank == 5
    assert sizes.mp_edge == pytest.approx(random_matrices.asymptotic_edge(300, 200), rel=0.03)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 15), st.integers(1, 15), st.integers(0, 10**6))
def test_residual_curve_is_the_error_of_best_approximations(m, n, seed):
    matrix = np.random.default_rng(seed).standard_normal((m, n))
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    curve = residual_curve(values)
    for r in range(len(values) + 1):
        best = (left[:, :r] * values[:r]) @ right[:r]
        assert curve[r] == pytest.approx(np.linalg.norm(matrix - best) / np.linalg.norm(matrix), abs=1e-12)
    assert residual_curve(values[:1], float(values @ values))[1] == pytest.approx(curve[1], abs=1e-12)


@pytest.mark.parametrize("values", [[], [0.0], [1.0, 2.0], [math.nan], [math.inf, 1.0]])
def test_a_list_that_is_no_spectrum_is_refused(values):
    with pytest.raises(RequestError, match="descending and the first above zero"):
        of(np.array(values, dtype=float))


def test_nothing_has_no_ratios():
    assert (ZERO.spectral_norm, ZERO.matrix_rank, ZERO.effective_rank) == (0.0, 0, None)
