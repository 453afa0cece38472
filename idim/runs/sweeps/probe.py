"""What a sweep will cost, from a few timed steps of a few of its runs.

Runs that share task, model, projection and recipe (but for the number of steps) are a group, and cost
``fixed + steps * step`` seconds each: two short trainings near the group's mean d give both numbers. The groups
with the most steps are probed until time is up; the others are taken to be as the slowest probed. A row of the store
is measured as the growth of a small store.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from idim.runs.engine import attempt
from idim.runs.overview import duration
from idim.runs.result import Outcome, RunResult
from idim.runs.spec import RunSpec
from idim.runs.store import DATABASE, Store

PATIENCE = 20.0  # seconds after which no other group is probed
SHORT, LONG = 2, 12  # steps
ROWS = 256  # of the store that is measured


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Seconds of a run: those before the first step and after the last, and those of one step."""

    fixed: float
    step: float

    def seconds(self, spec: RunSpec) -> float:
        """Return the seconds of a run."""
        return self.fixed + spec.recipe.steps * self.step


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What is still to train.

    Attributes:
        seconds: wall time, with so many workers all the time at work.
        workers: runs at once.
        bytes: growth of the store.
        probed, groups: groups of like runs that were timed, and all of them.
        failures: what went wrong in probes.
    """

    seconds: float
    workers: int
    bytes: int
    probed: int
    groups: int
    failures: tuple[str, ...] = ()

    def __str__(self) -> str:
        workers = f"{self.workers} worker{'s' if self.workers != 1 else ''}"
        timed = f"timed on {self.probed} of {self.groups} kinds of run" if self.groups > 1 else "timed on one run"
        lines = [f"about {duration(self.seconds)} on {workers} ({timed}), {_size(self.bytes)} of disk"]
        return "\n".join([*lines, *(f"  a probe failed: {message}" for message in self.failures)])


def estimate(specs: Sequence[RunSpec], workers: int, data: Path | None) -> Estimate:
    """Train a few steps of a few of the runs and return what all of them cost; nothing is kept.

    Raises:
        RequestError: when data or a model's file are gone.
    """
    groups = _groups(specs)
    costs, failures, result = _probe(groups, data)
    worst = max(costs.values(), key=lambda cost: cost.step, default=Cost(fixed=0.0, step=0.0))
    total = sum(costs.get(name, worst).seconds(spec) for name, group in groups.items() for spec in group)
    return Estimate(
        seconds=total / max(1, min(workers, len(specs))),
        workers=workers,
        bytes=0 if result is None else round(_row_bytes(specs, result) * len(specs)),
        probed=len(costs),
        groups=len(groups),
        failures=tuple(failures),
    )


def _groups(specs: Iterable[RunSpec]) -> dict[RunSpec, list[RunSpec]]:
    """Return the runs by group, the group with the most steps first."""
    groups: dict[RunSpec, list[RunSpec]] = {}
    for spec in specs:
        groups.setdefault(_likeness(spec), []).append(spec)
    return dict(sorted(groups.items(), key=lambda item: -sum(spec.recipe.steps for spec in item[1])))


def _likeness(spec: RunSpec) -> RunSpec:
    recipe = dataclasses.replace(spec.recipe, steps=1)
    return dataclasses.replace(spec, d=spec.d and 1, lr=1.0, seed=0, recipe=recipe, head_lr=spec.head_lr and 1.0)


def _probe(
    groups: dict[RunSpec, list[RunSpec]], data: Path | None
) -> tuple[dict[RunSpec, Cost], list[str], RunResult | None]:
    """Return the cost of each group that was timed, what failed, and some result."""
    costs: dict[RunSpec, Cost] = {}
    failures: list[str] = []
    result = None
    until = time.monotonic() + PATIENCE
    for name, group in groups.items():
        typical = _typical(group)
        outcomes = [_short(typical, steps, data) for steps in (1, SHORT, LONG)]  # the first loads and compiles
        results = [outcome.result for outcome in outcomes if outcome.result]
        if len(results) == len(outcomes):
            costs[name], result = _cost(results[1], results[2]), results[2]
        else:
            failures.append(next(outcome.message for outcome in outcomes if outcome.failed))
        if time.monotonic() > until:
            break
    return costs, failures, result


def _typical(group: Sequence[RunSpec]) -> RunSpec:
    """Return the run whose d is nearest to the mean: a step costs at most a linear function of d."""
    mean = statistics.fmean(spec.d or 0 for spec in group)
    return min(group, key=lambda spec: abs((spec.d or 0) - mean))


def _short(spec: RunSpec, steps: int, data: Path | None) -> Outcome:
    return attempt(dataclasses.replace(spec, recipe=dataclasses.replace(spec.recipe, steps=steps)), data)


def _cost(short: RunResult, long: RunResult) -> Cost:
    step = max(0.0, long.seconds - short.seconds) / max(1, long.steps - short.steps)
    return Cost(fixed=max(0.0, short.seconds - short.steps * step), step=step)


def _row_bytes(specs: Sequence[RunSpec], result: RunResult) -> float:
    """Return by how many bytes a store grows with a run."""
    sample = [dataclasses.replace(specs[i % len(specs)], seed=i) for i in range(ROWS)]
    with tempfile.TemporaryDirectory() as folder:
        Store(folder).close()
        empty = (Path(folder) / DATABASE).stat().st_size
        with Store(folder) as store:
            store.start(sample)
            store.finish([Outcome(spec=spec, result=result) for spec in sample])
        return ((Path(folder) / DATABASE).stat().st_size - empty) / ROWS


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:,.0f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"
