"""Shares that are recovered, against their closed forms."""

from __future__ import annotations

import pytest

from idim.errors import RequestError
from idim.learned.recovered import fraction, gain

PROBE = {"a": 0.5, "b": 0.6, "c": 0.0}
TUNED = {"a": 0.8, "b": 0.8, "c": 0.5}
HALF = {"a": 0.65, "b": 0.7, "c": 0.25}


def test_the_probe_gains_nothing_and_the_tuning_all():
    assert gain(PROBE, TUNED, PROBE).value == 0
    assert (gain(TUNED, TUNED, PROBE).value, fraction(TUNED, TUNED).value) == (1, 1)
    half = gain(HALF, TUNED, PROBE)
    assert half.value == pytest.approx(0.5)
    assert (half.low, half.high) == (pytest.approx(0.5), pytest.approx(0.5))  # the same share on every task


def test_the_fraction_is_the_mean_of_ratios_and_its_interval_within_them():
    share = fraction(HALF, TUNED)
    ratios = [HALF[t] / TUNED[t] for t in TUNED]
    assert share.value == pytest.approx(sum(ratios) / 3)
    assert min(ratios) <= share.low <= share.value <= share.high <= max(ratios)
    assert fraction(HALF, TUNED) == share  # seeded
    assert str(share).startswith(f"{share.value:.2f} [")


def test_tasks_whose_tuning_scores_nothing_have_no_fraction():
    share = fraction({"a": 0.4, "d": 0.1}, {"a": 0.8, "d": 0.09})
    assert (share.value, share.tasks) == (pytest.approx(0.5), 1)
    assert fraction({"d": 0.1}, {"d": -0.1}).value is None
    assert str(fraction({}, {})) == "none"


def test_a_tuning_that_gains_nothing_has_no_share():
    assert gain(HALF, PROBE, PROBE).value is None


def test_tasks_that_tuning_does_not_improve_have_no_gain_to_recover():
    start, tuned, inside = (scores | {"d": d} for scores, d in ((PROBE, 0.5), (TUNED, 0.45), (HALF, 0.9)))
    share = gain(inside, tuned, start)
    assert (share.value, share.tasks) == (pytest.approx(0.5), 3)


def test_a_task_without_a_score_is_refused():
    with pytest.raises(RequestError, match="every task must have all scores to be compared; received none of 'c'"):
        gain(HALF, TUNED, {"a": 0.5, "b": 0.5})
