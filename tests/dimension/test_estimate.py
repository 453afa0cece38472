import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.simulated_curves import FAMILIES, draw
from idim.dimension.estimate import SPLINE, T_TESTS, estimate
from idim.dimension.scores import Scores
from idim.dimension.smoothing import Level
from idim.errors import RequestError


def line(dims: list[int], seeds: int = 3, noise: float = 0.0, at: float = 100, rng_seed: int = 0) -> dict:
    rng = np.random.default_rng(rng_seed)
    return {d: {s: 0.9 + 0.1 * math.log(d / at) + noise * rng.normal() for s in range(seeds)} for d in dims}


# -- exact cases ----------------------------------------------------------------------------------


def test_a_step_between_measured_neighbours_is_exact() -> None:
    seen = {d: {s: min(1.0, d / 10) for s in range(3)} for d in (5, 8, 9, 10, 12, 30)}
    answer = estimate(seen, threshold=0.999999)
    assert (answer.d_int, answer.lo, answer.hi) == (10, 10, 10)
    assert answer.width == answer.error == 0
    assert not answer.censored
    assert not answer.open_below


def test_a_score_that_scatters_below_its_ceiling_is_exact_at_it() -> None:
    below = {19: {0: 0.95, 1: 0.97, 2: 0.93}, 18: {0: 0.90, 1: 0.86, 2: 0.91}, 10: {0: 0.2}}
    above = {20: dict.fromkeys(range(3), 1 - 1e-09), 40: {0: 1.0}}
    answer = estimate(below | above, threshold=0.999999)
    assert (answer.d_int, answer.lo, answer.hi) == (20, 20, 20)


def test_nothing_is_claimed_inside_an_unmeasured_gap() -> None:
    seen = {d: {s: min(1.0, d / 10) for s in range(3)} for d in (4, 8, 12, 16)}
    answer = estimate(seen, threshold=0.999999)
    assert (answer.lo, answer.hi) == (9, 12)


def test_d_of_one_is_an_answer() -> None:
    answer = estimate({d: dict.fromkeys(range(3), 1.0) for d in (1, 2, 4, 8)}, threshold=0.99)
    assert (answer.d_int, answer.lo, answer.hi, answer.open_below) == (1, 1, 1, False)


@settings(max_examples=50, deadline=None)
@given(d_int=st.integers(2, 5000), seeds=st.integers(2, 5))
def test_noise_free_adjacent_integers_are_exact(d_int: int, seeds: int) -> None:
    dims = sorted({max(1, d_int // 2), d_int - 1, d_int, 2 * d_int})
    seen = {d: dict.fromkeys(range(seeds), 1.0 if d >= d_int else 0.2) for d in dims}
    answer = estimate(seen, threshold=0.9)
    assert (answer.d_int, answer.hi) == (d_int, d_int)
    assert answer.lo == d_int


# -- the interval ---------------------------------------------------------------------------------


def test_the_estimate_is_where_a_noisy_line_crosses() -> None:
    answer = estimate(line([25, 50, 80, 90, 110, 125, 200, 400], noise=0.004), threshold=0.9)
    assert answer.d_int == pytest.approx(100, rel=0.06)
    assert answer.lo <= 90 + 1
    assert answer.hi >= 110  # the gap around the crossing
    assert answer.method == SPLINE
    assert 0 < answer.error < (answer.hi - answer.lo) / 2


def test_more_seeds_give_a_narrower_interval_down_to_the_gap() -> None:
    dims = [50, 90, 98, 103, 110, 200]
    widths = [
        np.median([estimate(line(dims, n, 0.02, rng_seed=i), threshold=0.9).width for i in range(9)])
        for n in (3, 6, 24)
    ]
    assert widths[0] > widths[1] > widths[2]
    assert widths[2] >= (103 - 99) / 103


def test_an_uncertain_bar_widens_the_interval() -> None:
    seen = line([25, 50, 80, 90, 110, 125, 200, 400], noise=0.002)
    exact, loose = (estimate(seen, threshold=0.9, error=e, df=2) for e in (0.0, 0.01))
    assert loose.width > 2 * exact.width
    assert loose.d_int == pytest.approx(exact.d_int, rel=0.05)


def test_scores_that_collapse_at_large_d_hide_no_smaller_one() -> None:
    """A rate out of its range: what is true of d = 1,024 stays true."""
    risen = line([25, 50, 80, 90, 110, 125, 200, 400], noise=0.004)
    fallen = risen | {d: {seed: 0.2 + 0.01 * seed for seed in range(3)} for d in (5_000, 80_000)}
    answer = estimate(fallen, threshold=0.9)
    assert answer.falls == 5_000
    assert dataclasses.replace(answer, falls=None, runs=24) == estimate(risen, threshold=0.9)
    assert answer.runs == 30


def test_one_run_of_each_dimension_shows_a_collapse_too() -> None:
    scores = {64: 0.5, 256: 0.7, 1024: 0.92, 16384: 0.3, 262144: 0.1}
    answer = estimate({d: {0: score} for d, score in scores.items()}, threshold=0.9)
    assert (answer.falls, answer.censored) == (16384, False)
    assert 256 < answer.d_int <= 1024


@pytest.mark.parametrize("last", [0.895, 0.88])
def test_a_small_step_back_is_noise_and_no_collapse(last: float) -> None:
    scores = {64: 0.5, 256: 0.7, 1024: 0.902, 16384: last}
    answer = estimate({d: {0: score} for d, score in scores.items()}, threshold=0.9)
    assert answer.falls is None
    assert answer.censored


def test_one_sided_data_say_so() -> None:
    censored = estimate(line([10, 20, 40], noise=0.002), threshold=0.9)
    assert censored.d_int is None
    assert censored.censored
    assert (censored.lo, censored.hi, censored.width) == (40, math.inf, math.inf)
    assert "not reached" in str(censored)
    opened = estimate(line([200, 400, 800], noise=0.002), threshold=0.9)
    assert (opened.d_int, opened.lo, opened.hi, opened.open_below) == (200, 1, 200, True)
    bounded = estimate(line([200, 400, 800], noise=0.002), threshold=0.9, d_min=200)
    assert (bounded.lo, bounded.hi, bounded.open_below) == (200, 200, False)


def test_a_largest_dimension_at_the_bar_leaves_the_top_open() -> None:
    answer = estimate(line([25, 50, 100], noise=0.01), threshold=0.9005)
    assert answer.hi == math.inf
    assert answer.lo <= 100


def test_few_runs_give_no_number_beyond_what_they_decide() -> None:
    answer = estimate({10: {0: 0.5}, 1000: {0: 0.95}}, threshold=0.9)
    assert 10 < answer.d_int <= 1000
    assert (answer.lo, answer.hi) == (1, math.inf)
    assert answer.method == T_TESTS
    assert math.isnan(answer.error)


def test_missing_runs_are_tolerated() -> None:
    seen = line([25, 50, 80, 90, 110, 125, 200, 400], noise=0.004)
    del seen[90][1], seen[110][0], seen[400][2]
    assert estimate(seen | {70: {}}, threshold=0.9) == estimate(seen, threshold=0.9)
    assert estimate(seen, threshold=0.9).runs == 21


def test_the_order_of_runs_does_not_matter() -> None:
    seen = line([25, 50, 80, 90, 110, 125, 200, 400], noise=0.004)
    turned = {d: dict(reversed(runs.items())) for d, runs in reversed(seen.items())}
    assert estimate(seen, threshold=0.9) == estimate(turned, threshold=0.9)


@pytest.mark.parametrize("seen", [{}, {10: {}}, {0: {0: 0.5}}, {10: {0: math.nan}}])
def test_bad_observations_are_refused(seen: dict) -> None:
    with pytest.raises(RequestError):
        estimate(seen, threshold=0.9)


# -- laws -----------------------------------------------------------------------------------------

scores = st.dictionaries(
    st.integers(1, 10_000),
    st.dictionaries(st.integers(0, 5), st.floats(0, 1), min_size=1, max_size=5),
    min_size=1,
    max_size=9,
)


@settings(max_examples=60, deadline=None)
@given(seen=scores, threshold=st.floats(0.01, 1), error=st.sampled_from([0.0, 0.01]))
def test_any_data_give_a_consistent_answer(seen: dict, threshold: float, error: float) -> None:
    answer = estimate(seen, threshold=threshold, error=error, df=2)
    table = Scores.of(seen).risen(Level(mean=threshold, error=error, df=2))
    below, above = table.bracket(threshold)
    assert answer.censored == (above is None) == (answer.d_int is None)
    assert 1 <= answer.lo <= answer.hi
    if above is not None:
        assert answer.lo <= answer.d_int <= min(answer.hi, max(seen))
        assert answer.lo <= (below or 0) + 1
        assert answer.hi >= above
    d, curve = np.array(answer.curve).T
    assert np.all(np.diff(curve) >= -1e-9)
    assert (d[0], d[-1]) == (min(seen), table.dims[-1])
    assert answer.falls == min((k for k in seen if k > table.dims[-1] and seen[k]), default=None)


@settings(max_examples=25, deadline=None)
@given(family=st.sampled_from(["logistic", "kink", "step"]), number=st.integers(0, 20), shift=st.floats(-2, 2))
def test_shifting_all_scores_and_the_bar_changes_nothing(family: str, number: int, shift: float) -> None:
    world = draw(family, number)
    dims = {max(1, round(world.truth * f)) for f in (0.3, 0.7, 0.9, 1.1, 1.4, 3)}
    seen = {d: {s: world.run(d, s) for s in range(3)} for d in dims}
    moved = {d: {s: y + shift for s, y in runs.items()} for d, runs in seen.items()}
    a, b = estimate(seen, threshold=world.threshold), estimate(moved, threshold=world.threshold + shift)
    assert a.d_int == pytest.approx(b.d_int, abs=1)
    assert (a.lo, a.hi) == pytest.approx((b.lo, b.hi), abs=1)


# -- coverage on fixed designs --------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [3, 5])
def test_coverage_on_a_fixed_design(seeds: int) -> None:
    smooth = [f for f in FAMILIES if f not in ("toy", "rank")]
    covered = []
    for number in range(8):
        for family in smooth:
            world = draw(family, number)
            factors = (0.25, 0.5, 0.8, 0.93, 1.08, 1.25, 2, 4)
            dims = {min(max(1, round(world.truth * f)), world.d_max) for f in factors}
            seen = {d: {s: world.run(d, s) for s in range(seeds)} for d in dims}
            answer = estimate(seen, **world.level())
            covered.append(answer.lo <= world.truth <= answer.hi)
    assert np.mean(covered) >= 0.92
