from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idim.dimension import rates


def hill(peak: float) -> rates.Evaluate:
    """Return scores that fall with the distance from ``peak`` on a log scale."""
    return lambda lrs: [(1 - abs(math.log(lr / peak)),) for lr in lrs]


@given(st.floats(-6, 6))
def test_the_peak_is_found_to_the_finest_step(offset: float) -> None:
    peak = 0.3 * math.exp(offset)
    best, tried = rates.tune(hill(peak), 0.3)
    assert abs(math.log(best / peak)) <= math.log(rates.GRID_FACTOR) / 4 + 1e-9
    assert tried[best] == max(s for s in tried.values() if s is not None)


def test_a_failed_rate_is_never_chosen() -> None:
    def evaluate(lrs: Sequence[float]) -> list[tuple[float, ...] | None]:
        return [None if lr > 0.2 else (lr,) for lr in lrs]

    best, tried = rates.tune(evaluate, 0.3)
    assert best <= 0.2
    assert tried[0.3] is None


def test_all_failed_ends_and_says_so() -> None:
    best, tried = rates.tune(lambda lrs: [None] * len(lrs), 1.0)
    assert best == min(tried)
    assert set(tried.values()) == {None}


def test_on_a_plateau_the_smallest_rate_is_taken_and_the_grid_stops() -> None:
    def evaluate(lrs: Sequence[float]) -> list[tuple[float, ...]]:
        return [(0.80 + 0.01 * (k % 2), 0.81) if lr >= 1 else (0.5, 0.51) for k, lr in enumerate(lrs)]

    best, tried = rates.tune(evaluate, 1.0)
    assert best == 1.0
    assert max(tried) <= rates.GRID_FACTOR


def test_the_standard_error_is_that_of_a_mean_pooled_over_rates() -> None:
    scores = {1.0: (0.1, 0.3), 2.0: (0.5, 0.5), 4.0: None}
    assert rates.standard_error(scores) == pytest.approx(math.sqrt((0.02 + 0.0) / 2 / 2))
    assert rates.standard_error({1.0: (0.5,)}) == 0.0


def test_no_rate_is_tried_twice() -> None:
    asked: list[float] = []

    def evaluate(lrs: Sequence[float]) -> Sequence[tuple[float, ...] | None]:
        asked.extend(lrs)
        return hill(5.0)(lrs)

    rates.tune(evaluate, 0.3)
    assert len(asked) == len(set(asked))


def test_rules_report_what_they_do() -> None:
    rule = rates.tuned(0.5, [rates.Trial(100, 0.05, 0.9)])
    assert rule.lr(100) == pytest.approx(0.05)
    assert rule.lr(400) == pytest.approx(0.025)
    assert rule.report()["tried"] == [{"d": 100, "lr": 0.05, "score": 0.9}]
    assert rates.fixed(1e-3, "as asked").lr(7) == 1e-3
