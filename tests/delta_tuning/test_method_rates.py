"""The search for a rate: the same number of trials for all, and it finds the best of a curve with one top."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idim import methods
from idim.delta_tuning.rates import FACTOR, best_rate, first_rates, next_rate, usual_rate


def tried(usual: float, trials: int, top: float) -> dict[float, float | None]:
    """Return what a search sees of a score that falls off on both sides of a rate."""

    def score(rate: float) -> float:
        return -abs(math.log(rate / top))

    scores: dict[float, float | None] = {rate: score(rate) for rate in first_rates(usual, trials)}
    for _ in range(trials - len(scores)):
        rate = next_rate(scores)
        assert rate not in scores
        scores[rate] = score(rate)
    return scores


@given(st.floats(1e-5, 1.0), st.integers(1, 12), st.floats(1e-6, 1e2))
@settings(max_examples=60, deadline=None)
def test_every_search_takes_its_trials_and_no_more(usual: float, trials: int, top: float) -> None:
    assert len(tried(usual, trials, top)) == trials


@given(st.floats(-3.0, 3.0))
@settings(max_examples=60, deadline=None)
def test_a_top_within_a_factor_of_64_is_found(distance: float) -> None:
    top = 1e-3 * FACTOR**distance
    found = best_rate(tried(1e-3, 9, top))
    assert abs(math.log(found / top)) <= math.log(FACTOR) / 2 + 1e-9


def test_the_first_three_lie_around_the_usual_rate() -> None:
    assert sorted(first_rates(1e-3, 3)) == pytest.approx([2.5e-4, 1e-3, 4e-3])
    assert first_rates(1e-3, 1) == [1e-3]
    assert len(first_rates(1e-3, 2)) == 2


def test_an_edge_is_passed_and_a_gap_is_halved() -> None:
    assert next_rate({1.0: 0.1, 4.0: 0.2, 16.0: 0.3}) == 64.0
    assert next_rate({1.0: 0.3, 4.0: 0.2, 16.0: 0.1}) == 0.25
    assert next_rate({1.0: 0.2, 4.0: 0.3, 16.0: 0.1}) == 2.0
    assert next_rate({1.0: 0.1, 4.0: 0.3, 16.0: 0.2}) == 8.0


def test_failed_trainings_are_worse_than_any_score() -> None:
    assert best_rate({1.0: -5.0, 4.0: None}) == 1.0
    assert next_rate({1.0: None, 4.0: 0.3, 16.0: None}) == 2.0
    assert best_rate({4.0: None, 1.0: None}) == 1.0


def test_of_equal_scores_the_smallest_rate_is_taken() -> None:
    assert best_rate({4.0: 0.5, 1.0: 0.5, 16.0: 0.4}) == 1.0


def test_every_method_has_a_usual_rate() -> None:
    for name in methods.METHODS:
        assert 0 < usual_rate(name) < 1
        assert usual_rate(name) == usual_rate(name, pretrained=True)


def test_a_combination_starts_at_the_lowest_of_its_parts() -> None:
    assert usual_rate("adapter+prompt") == min(usual_rate("adapter"), usual_rate("prompt"))


def test_a_fresh_network_takes_larger_steps() -> None:
    assert usual_rate("full", pretrained=False) > usual_rate("full")
