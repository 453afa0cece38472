r"""Progress of a measure: what is trained, what is left, and how long that takes.

Trainings differ in cost: full ones from those in a subspace, and among these large d from small where a product
with P costs more for more columns. So the remaining time is a sum over what is left: a full training costs the mean of
the full ones trained now, one at :math:`d` what a line :math:`a + b d` with :math:`a, b \ge 0` through the
subspace ones says, and either stands in for the other until one was trained. The sum is divided by the number of
trainings that ran at once so far, seconds of training over seconds of waiting, which takes in idle workers and their
start. How many trainings the search will ask for is not known before; its budget says "at most".
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import nnls

from idim.runs import Outcome, RunSpec
from idim.runs.overview import duration

SECONDS_BETWEEN_LINES = 15.0  # in a log, which is not a terminal
BAR = "{desc}{postfix} [{elapsed}]"


@dataclass(frozen=True, kw_only=True)
class Later:
    """Trainings expected after those that were asked for: full ones and ones in a subspace, and how sure that is."""

    full: int = 0
    subspace: int = 0
    sure: str = ""
    """Before the number: empty, "at most " or "about "."""


@dataclass
class Meter:
    """Counts the trainings of a measure and estimates the time of those left.

    Args:
        clock: seconds since any time.
    """

    clock: Callable[[], float] = time.perf_counter
    stage: str = ""
    done: int = 0
    later: Later = field(default_factory=Later)
    waiting: dict[str, RunSpec] = field(default_factory=dict)
    costs: list[tuple[int | None, float]] = field(default_factory=list)
    waited: float = 0.0
    """Seconds between the start of a batch and its last outcome, over all batches."""
    since: float = 0.0

    def begin(self, stage: str, specs: Sequence[RunSpec], later: Later) -> None:
        """Take in that these are trained now, and what comes later."""
        self.stage, self.later = stage, later
        self.waiting = {spec.key: spec for spec in specs}
        self.since = self.clock()

    def advance(self, outcome: Outcome) -> None:
        """Take in a training that has ended."""
        now = self.clock()
        self.waited, self.since = self.waited + now - self.since, now
        self.waiting.pop(outcome.spec.key, None)
        self.done += 1
        if outcome.result is not None:
            self.costs.append((outcome.spec.d, outcome.result.seconds))

    @property
    def left(self) -> int:
        """Trainings that are left, as far as is known."""
        return len(self.waiting) + self.later.full + self.later.subspace

    @property
    def seconds(self) -> float | None:
        """The time they take; None before one has ended."""
        if not self.costs or not self.waited:
            return None
        last = next((d for d, _ in reversed(self.costs) if d is not None), None)
        ahead = [spec.d for spec in self.waiting.values()]
        work = sum(map(self.cost, ahead)) + self.later.full * self.cost(None) + self.later.subspace * self.cost(last)
        return work * self.waited / sum(seconds for _, seconds in self.costs)

    def cost(self, d: int | None) -> float:
        """Return the seconds of a training in d coordinates, or of a full one (None)."""
        alike = [(other, seconds) for other, seconds in self.costs if (other is None) == (d is None)]
        if not alike:
            return statistics.fmean(seconds for _, seconds in self.costs)
        if d is None or len({other for other, _ in alike}) < 2:
            return statistics.fmean(seconds for _, seconds in alike)
        dims, seconds = np.array(alike, dtype=float).T
        (a, b), _ = nnls(np.stack([np.ones_like(dims), dims / dims.max()], axis=1), seconds)
        return float(a + b * d / dims.max())

    def __str__(self) -> str:
        time_left = "" if self.seconds is None else f", {self.later.sure}{duration(self.seconds)}"
        return f"{self.stage}: {self.done} trained, {self.later.sure}{self.left} left{time_left}"


class Progress:
    """Nothing is shown; a kind shows it."""

    def begin(self, stage: str, specs: Sequence[RunSpec], later: Later) -> None:
        """Be told the stage of the measure, what is trained now, and what comes later."""

    def advance(self, outcome: Outcome) -> None:
        """Be told a training that has ended."""


class Line(Progress):
    """Shows it on a bar of ``tqdm``: one line in a terminal, a bar in a notebook, sparse lines in a log."""

    def __init__(self, bar: Any) -> None:
        self.bar = bar
        self.meter = Meter()

    def begin(self, stage: str, specs: Sequence[RunSpec], later: Later) -> None:
        """Say what is left."""
        self.meter.begin(stage, specs, later)
        self.bar.set_description_str(str(self.meter), refresh=bool(specs))

    def advance(self, outcome: Outcome) -> None:
        """Say what is left, and the score."""
        self.meter.advance(outcome)
        self.bar.set_description_str(str(self.meter), refresh=False)
        self.bar.set_postfix_str(str(outcome), refresh=False)
        self.bar.update()


@contextmanager
def shown(*, quiet: bool) -> Iterator[Progress]:
    """Yield what is told of the progress and shows it on stderr, unless ``quiet``."""
    from tqdm.auto import tqdm

    interval = 0.2 if sys.stderr.isatty() else SECONDS_BETWEEN_LINES
    with tqdm(disable=quiet, leave=False, mininterval=interval, bar_format=BAR) as bar:
        yield Line(bar)
