"""The remaining time of a measure, on trainings whose costs are known."""

from __future__ import annotations

import dataclasses
import io
import itertools
import re

import pytest

from idim.dimension.measure import run_measure
from idim.dimension.outlook import Outlook
from idim.dimension.progress import Later, Meter, shown
from idim.dimension.request import MeasureRequest
from idim.runs import Outcome, RunSpec
from idim.runs.result import RunResult
from idim.tasks import Recipe

NOTHING = Later()
FULL = RunSpec(task="t", fingerprint="f", model="m", method="full", lr=0.1, recipe=Recipe(), seed=0)


def subspace(d, seed=0):
    return dataclasses.replace(FULL, method="subspace", projection="dense", d=d, seed=seed)


def ended(spec, seconds):
    result = RunResult(score=0.5, selection_score=0.5, train_loss=1.0, D=9, trained=9, steps=1, seconds=seconds)
    return Outcome(spec=spec, result=result)


class Machine:
    """So many workers on a clock of its own; a training costs what ``cost`` says."""

    def __init__(self, cost, workers, startup=0.0):
        self.cost, self.workers, self.now, self.startup = cost, workers, 0.0, startup
        self.meter = Meter(clock=lambda: self.now)

    def train(self, specs, later=NOTHING):
        """Return what the meter said before each training ended, with the time at which it said it."""
        self.meter.begin("stage", specs, later)
        free = [self.now + self.startup] * self.workers
        ends = []
        for spec in specs:
            at = free.index(min(free))
            free[at] += self.cost(spec)
            ends.append((free[at], spec))
        said = []
        for end, spec in sorted(ends, key=lambda pair: pair[0]):
            self.now = end
            self.meter.advance(ended(spec, self.cost(spec)))
            said.append((end, self.meter.seconds))
        return said


def test_nothing_is_said_before_a_training_has_ended():
    meter = Meter(clock=itertools.count().__next__)
    meter.begin("reference", [FULL], Later(subspace=4, sure="at most "))
    assert meter.seconds is None
    assert str(meter) == "reference: 0 trained, at most 5 left"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_cost_that_grows_with_d_is_foreseen(workers):
    machine = Machine(lambda spec: 5 + spec.d / 100, workers)
    specs = [subspace(d, seed) for d in (100, 200, 400, 800, 1600, 3200) for seed in range(4)]
    said = machine.train(specs)
    for at, left in said[8:]:  # what other workers have in hand counts whole: too much by that, never too little
        in_hand = (workers - 1) * machine.cost(specs[-1])
        assert machine.now - at - 1e-6 <= left <= (machine.now - at) * 1.01 + in_hand + 1e-6
    naive_at, _ = said[8]  # a mean over what is done would have said less than half of the truth
    assert naive_at / 9 * 15 < (machine.now - naive_at) / 2


def test_full_trainings_and_those_in_a_subspace_have_their_own_cost():
    machine = Machine(lambda spec: 100.0 if spec.d is None else 10.0, workers=2, startup=3.0)
    machine.train([dataclasses.replace(FULL, seed=s) for s in range(4)], Later(subspace=20))
    first = machine.train([subspace(50, 0), subspace(50, 1)], Later(subspace=18))[-1]
    machine.train([subspace(50, s) for s in range(2, 20)])
    assert first[1] == pytest.approx(machine.now - first[0], rel=0.1)


def test_a_failed_training_is_done_and_costs_nothing():
    meter = Meter(clock=itertools.count().__next__)
    meter.begin("search", [subspace(3), subspace(4)], Later())
    meter.advance(Outcome(spec=subspace(3), message="no"))
    assert (meter.done, meter.left, meter.seconds) == (1, 1, None)
    meter.advance(ended(subspace(4), 2.0))
    assert (meter.done, meter.left, meter.seconds) == (2, 0, 0.0)


def test_the_outlook_counts_what_a_measure_trains():
    searching = Outlook(MeasureRequest(budget=14, reference_seeds=3), tunes=False, tuning=15)
    assert searching.after_reference == Later(subspace=14, sure="at most ")
    assert searching.in_search(2, 11) == Later(subspace=1, sure="at most ")
    tuning = Outlook(MeasureRequest(dims="10,20,30", seeds=2, reference_seeds=3), tunes=True, tuning=10)
    assert tuning.while_tuning_reference == Later(full=3, subspace=16, sure="about ")
    assert tuning.in_search(2, 4) == Later()


def test_a_measure_counts_down_to_nothing_and_skips_what_is_stored(tmp_path, monkeypatch):
    def lines(dims):
        stream = io.StringIO()
        monkeypatch.setattr("sys.stderr", stream)
        monkeypatch.setattr("idim.dimension.progress.SECONDS_BETWEEN_LINES", 0.0)
        options = {"lr": "1/sqrt(d)", "reference_lr": 0.01, "reference_seeds": 2, "seeds": 2, "engine": "serial"}
        run_measure(MeasureRequest(model="linear", task="digits", dims=dims, steps=3, out=tmp_path, **options))
        return re.findall(r"\w+: (\d+) trained, (\d+) left", stream.getvalue())

    assert [(int(a), int(b)) for a, b in dict.fromkeys(lines("5,10"))] == [(n, 6 - n) for n in range(7)]
    assert [(int(a), int(b)) for a, b in dict.fromkeys(lines("5,10,20"))][-1] == (2, 0)


def test_quiet_says_nothing(capsys):
    with shown(quiet=True) as progress:
        progress.begin("search", [subspace(3)], Later())
        progress.advance(ended(subspace(3), 1.0))
    assert capsys.readouterr().err == ""
