import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.simulated_curves import FAMILIES, World, draw
from idim.dimension.estimate import estimate
from idim.dimension.search import Proposal, propose
from idim.errors import RequestError

Seen = dict[int, dict[int, float]]


def walk(score, *, fails=lambda d, s: False, **options) -> tuple[Seen, set, list[Proposal]]:
    """Carry a search to its end."""
    seen: Seen = {}
    failed: set[tuple[int, int]] = set()
    said: list[Proposal] = []
    while not said or not said[-1].done:
        said.append(propose(seen, failed=failed, **options))
        assert len(said) < 200
        assert said[-1].done == (not said[-1].points)
        assert len(set(said[-1].points)) == len(said[-1].points)
        for d, s in said[-1].points:
            assert options.get("d_min", 1) <= d <= options["d_max"]
            assert s not in seen.get(d, {})
            assert (d, s) not in failed
            if fails(d, s):
                failed.add((d, s))
            else:
                seen.setdefault(d, {})[s] = score(d, s)
    return seen, failed, said


def spent(seen: Seen) -> int:
    return sum(map(len, seen.values()))


# -- step functions -------------------------------------------------------------------------------


@pytest.mark.parametrize("d_int", [1, 2, 9, 10, 17, 40, 64])
def test_the_toy_problem_ends_at_adjacent_integers(d_int: int) -> None:
    seen, _, said = walk(lambda d, s: min(1.0, d / d_int), threshold=0.999999, d_max=1000)
    answer = estimate(seen, threshold=0.999999)
    assert (answer.d_int, answer.lo, answer.hi) == (d_int, d_int, d_int)
    assert len(seen[d_int]) >= 3
    assert d_int == 1 or len(seen[d_int - 1]) >= 3
    assert spent(seen) <= 20
    assert "narrow enough" in said[-1].reason


@pytest.mark.parametrize("rank", [1, 5, 20, 45])
def test_a_regression_of_known_rank_is_exact(rank: int) -> None:
    for number in range(5):
        rng = np.random.default_rng([rank, number])
        score = lambda d, s, rng=rng: 1 - (1 - min(1, d / rank)) * math.exp(0.4 * rng.normal())  # noqa: E731
        seen, _, _ = walk(score, threshold=0.999999, d_max=200)
        assert estimate(seen, threshold=0.999999).d_int == rank


@settings(max_examples=40, deadline=None)
@given(d_int=st.integers(2, 100_000), low=st.floats(0, 0.8))
def test_a_noise_free_step_is_held_within_the_width(d_int: int, low: float) -> None:
    seen, _, _ = walk(lambda d, s: 1.0 if d >= d_int else low, threshold=0.9, d_max=100_000)
    answer = estimate(seen, threshold=0.9)
    assert answer.lo <= d_int <= answer.hi
    assert answer.width <= 0.25
    assert spent(seen) <= 24


# -- ends of the range ----------------------------------------------------------------------------


def test_a_bar_never_reached_ends_soon_at_d_max_with_its_seeds() -> None:
    seen, _, said = walk(lambda d, s: 0.5, threshold=0.9, d_max=5000)
    assert "not reached by d = 5000" in said[-1].reason
    assert len(seen[5000]) >= 3
    assert spent(seen) <= 8
    assert estimate(seen, threshold=0.9).censored


def test_a_collapse_at_large_d_is_looked_through() -> None:
    """Scores rise through the bar at 500 and are those of chance from 3,000 on."""

    def score(d: int, seed: int) -> float:
        return 0.1 if d >= 3_000 else 0.9 + 0.05 * math.log(d / 500) + 0.002 * math.sin(seed * 7.0 + d)

    seen, _, said = walk(score, threshold=0.9, d_max=200_000)
    answer = estimate(seen, threshold=0.9)
    assert answer.falls is not None
    assert answer.lo <= 500 <= answer.hi
    assert answer.width <= 0.25, said[-1].reason


def test_a_bar_reached_everywhere_goes_down_to_d_min() -> None:
    for d_min in (1, 7):
        seen, _, said = walk(lambda d, s: 0.95, threshold=0.9, d_max=5000, d_min=d_min)
        answer = estimate(seen, threshold=0.9, d_min=d_min)
        assert (answer.d_int, answer.lo, answer.hi) == (d_min, d_min, d_min)
        assert spent(seen) <= 12
        assert said[-1].done


def test_one_dimension_is_enough_of_a_range() -> None:
    assert spent(walk(lambda d, s: 0.95, threshold=0.9, d_max=1)[0]) >= 3
    assert "not reached" in walk(lambda d, s: 0.5, threshold=0.9, d_max=1)[2][-1].reason


# -- options --------------------------------------------------------------------------------------


def test_given_dimensions_are_measured_and_nothing_else() -> None:
    options = {"threshold": 0.9, "d_max": 5000, "dims": (1000, 10, 100), "seeds": 2, "budget": 1}
    seen, failed, said = walk(lambda d, s: 0.5, fails=lambda d, s: (d, s) == (10, 1), **options)
    assert {d: sorted(runs) for d, runs in seen.items()} == {10: [0], 100: [0, 1], 1000: [0, 1]}
    assert failed == {(10, 1)}
    assert len(said) == 2


@pytest.mark.parametrize("batch", [2, 4, 8])
def test_every_proposal_keeps_the_workers_busy(batch: int) -> None:
    for name in ("mnist", "step", "toy", "relative"):
        world = draw(name, 1)
        said = walk(world.run, d_max=world.d_max, batch=batch, **world.level())[2]
        assert {len(p.points) for p in said[:-2]} <= {batch}


@pytest.mark.parametrize("budget", [1, 2, 5, 9, 20])
def test_the_budget_is_never_passed(budget: int) -> None:
    world = draw("shallow", 0)
    fails = lambda d, s: s == 1  # noqa: E731
    seen, failed, said = walk(world.run, fails=fails, threshold=world.threshold, d_max=world.d_max, budget=budget)
    assert spent(seen) + len(failed) == budget
    assert f"the budget of {budget} trainings is spent" in said[-1].reason


def test_an_infinite_width_only_brackets() -> None:
    world = draw("mnist", 0)
    seen, _, said = walk(world.run, threshold=0.9, d_max=world.d_max, width=math.inf, seeds=1)
    assert "bracketed" in said[-1].reason
    assert spent(seen) <= 8


def test_the_deciding_dimensions_have_their_seeds() -> None:
    for number in range(5):
        world = draw("logistic", number)
        seen, _, said = walk(world.run, threshold=world.threshold, d_max=world.d_max, seeds=5)
        answer = estimate(seen, threshold=world.threshold)
        if "narrow enough" in said[-1].reason:
            assert any(len(runs) >= 5 for d, runs in seen.items() if answer.d_int / 2 <= d < answer.d_int)
            assert any(len(runs) >= 5 for d, runs in seen.items() if answer.d_int <= d <= 2 * answer.d_int)


def test_a_reference_too_uncertain_ends_the_search_early() -> None:
    world = draw("mnist", 0)
    seen, _, said = walk(world.run, threshold=0.9, error=0.02, df=2, d_max=world.d_max)
    assert "spread of the reference" in said[-1].reason
    assert spent(seen) < 30


@pytest.mark.parametrize(
    "option",
    [
        {"seeds": 0},
        {"budget": 0},
        {"batch": 0},
        {"width": 0},
        {"d_min": 0},
        {"d_min": 11},
        {"dims": ()},
        {"dims": (11,)},
    ],
)
def test_options_out_of_range_are_refused(option: dict) -> None:
    with pytest.raises(RequestError, match="received"):
        propose({}, threshold=0.9, **({"d_max": 10} | option))


# -- failures and purity --------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(family=st.sampled_from(sorted(FAMILIES)), number=st.integers(0, 30), share=st.sampled_from([0.0, 0.2, 0.6]))
def test_failed_runs_are_lived_with(family: str, number: int, share: float) -> None:
    world = draw(family, number)
    fails = lambda d, s: np.random.default_rng([d, s]).random() < share  # noqa: E731
    seen, failed, said = walk(world.run, fails=fails, d_max=world.d_max, **world.level())
    assert said[-1].done
    assert spent(seen) + len(failed) <= 40


def test_dimensions_that_always_fail_are_passed_by() -> None:
    covered = []
    for number in range(12):
        world = draw("mnist", number)
        seen, failed, _ = walk(world.run, fails=lambda d, s: 600 <= d <= 640, threshold=0.9, d_max=world.d_max)
        answer = estimate(seen, threshold=0.9)
        covered.append(answer.lo <= world.truth <= answer.hi)
        assert all(sum(d == e for e, _ in failed) <= 4 for d in {d for d, _ in failed})
    assert sum(covered) >= 10


def test_everything_failing_ends() -> None:
    seen, failed, said = walk(lambda d, s: 0.0, fails=lambda d, s: True, threshold=0.9, d_max=1000)
    assert not seen
    assert said[-1].done
    assert len(failed) <= 40


@settings(max_examples=10, deadline=None)
@given(family=st.sampled_from(sorted(FAMILIES)), number=st.integers(0, 30))
def test_a_search_started_again_walks_the_same_way(family: str, number: int) -> None:
    world = draw(family, number)
    first, again = (walk(world.run, d_max=world.d_max, **world.level()) for _ in range(2))
    assert first == again
    turned = {d: dict(reversed(runs.items())) for d, runs in reversed(first[0].items())}
    assert propose(turned, d_max=world.d_max, **world.level()) == first[2][-1]


# -- the promise ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("seeds", "each"), [(3, 5), (5, 4)])
def test_the_interval_covers_the_truth_at_a_third_of_a_grid(seeds: int, each: int) -> None:
    worlds: list[World] = [draw(family, number) for family in FAMILIES for number in range(each)]
    covered, cost, widths = [], [], []
    for world in worlds:
        seen, _, _ = walk(world.run, d_max=world.d_max, seeds=seeds, **world.level())
        answer = estimate(seen, **world.level())
        covered.append(answer.lo <= world.truth <= answer.hi)
        cost.append(spent(seen))
        widths.append(answer.width)
    assert np.mean(covered) >= 0.92
    assert np.mean(cost) <= 33
    assert np.median(widths) <= 0.25
    assert np.mean(np.array(widths) <= 0.25) >= 0.85


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
def test_five_hundred_simulations(seeds: int) -> None:
    from benchmarks.estimator_coverage import simulate, summary

    rows = [simulate(family, number, seeds) for family in FAMILIES for number in range(39)]
    table = summary(rows)
    assert table["covers"] >= 0.92
    assert table["trainings"] <= 33
    assert table["width"] <= table["oracle_width"] < table["grid_width"]
