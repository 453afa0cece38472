"""``sweep``: check a grid as a whole, then train what the store lacks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from idim.runs import engines
from idim.runs.result import Outcome
from idim.runs.store import DATABASE, Store
from idim.runs.sweeps.grid import Grid, read_grid
from idim.runs.sweeps.probe import Estimate, estimate
from idim.runs.sweeps.request import SweepRequest

SHOWN = 20  # failed runs that are named one by one
ON_CPU = "idim: runs train on the CPU; gpus among their resources only choose nodes and limit how many run at once"
SECONDS_BETWEEN_LINES = 15.0  # of progress in a log, which is not a terminal


@dataclass(frozen=True, kw_only=True)
class SweepReport:
    """What a sweep did.

    Attributes:
        spec, store: the file and the folder.
        runs: number of runs of the grid (of the part of it, with a shard).
        before: how many were finished when it began.
        trained: outcomes of those trained now.
    """

    spec: Path
    store: Path
    runs: int
    before: int
    trained: tuple[Outcome, ...]

    def __str__(self) -> str:
        failed = [outcome for outcome in self.trained if outcome.failed]
        head = f"{self.spec}: {self.runs} runs, {self.before} finished before, {len(self.trained)} trained now"
        lines = [f"{head}, {len(failed)} of them failed; store {self.store}", *(f"  {o}" for o in failed[:SHOWN])]
        return "\n".join(lines + [f"  ... and {len(failed) - SHOWN} more failed"] * (len(failed) > SHOWN))


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What a sweep would do; ``estimate`` is None where nothing is left to train."""

    spec: Path
    runs: int
    before: int
    estimate: Estimate | None

    def __str__(self) -> str:
        left = self.runs - self.before
        head = f"{self.spec}: {self.runs} runs, {self.before} finished, {left} to train"
        return head if self.estimate is None else f"{head}\n{self.estimate}"


def run_sweep(request: SweepRequest) -> SweepReport:
    """Train what the store lacks of a sweep.

    An exception inside a training is a failed run, and the others go on. Whatever ends this early loses the runs
    in flight and nothing else; the same request goes on from there.

    Raises:
        RequestError: when the sweep cannot be served, before anything trains; when the store can no longer be written.
    """
    grid = wanted(request)
    with Store(request.store) as store, engines.create(request, store, grid.resources) as engine:
        for other in request.reuse:
            store.adopt(other)
        finished = store.finished_keys()
        missing = [spec for spec in grid.specs if spec.key not in finished]
        store.plan(len(missing))
        asks_gpus = request.engine == "ray" and any(r.gpus for r in grid.resources.values())
        with _shown(len(missing), note=ON_CPU if asks_gpus else "", quiet=request.quiet) as progress:
            outcomes = engine.map(missing, progress)
    runs, trained = len(grid.specs), tuple(outcomes.values())
    return SweepReport(spec=request.spec, store=request.store, runs=runs, before=runs - len(missing), trained=trained)


def dry_run(request: SweepRequest) -> DryRun:
    """Check a sweep and say what it would cost; writes nothing.

    Raises:
        RequestError: when the sweep cannot be served.
    """
    specs = wanted(request).specs
    finished = _finished(request)
    missing = [spec for spec in specs if spec.key not in finished]
    cost = estimate(missing, request.worker_count, request.data) if missing else None
    return DryRun(spec=request.spec, runs=len(specs), before=len(specs) - len(missing), estimate=cost)


def wanted(request: SweepRequest) -> Grid:
    """Return the runs of a request: the grid's, or those of its shard.

    Raises:
        RequestError: as :func:`idim.runs.sweeps.grid.read_grid`.
    """
    index, parts = request.part
    grid = read_grid(request.spec, request.overrides, request.data)
    return Grid([spec for spec in grid.specs if int(spec.key[:16], 16) % parts == index], grid.resources)


def _finished(request: SweepRequest) -> set[str]:
    """Return the keys of the finished runs in the stores of a request, without writing any."""
    keys: set[str] = set()
    places = [request.store] if (request.store / DATABASE).exists() else []
    for place in [*places, *request.reuse]:
        with Store.read(place) as store:
            keys |= store.finished_keys()
    return keys


@contextmanager
def _shown(runs: int, *, note: str, quiet: bool) -> Iterator[Callable[[Outcome], None]]:
    """Yield a function that is told each finished run and shows it below a note, unless ``quiet``."""
    from tqdm.auto import tqdm

    interval = 0.2 if sys.stderr.isatty() else SECONDS_BETWEEN_LINES
    with tqdm(total=runs, unit=" runs", disable=quiet, leave=False, mininterval=interval) as bar:
        if note and not quiet:
            bar.write(note, file=sys.stderr)

        def advance(outcome: Outcome) -> None:
            bar.set_postfix_str(str(outcome), refresh=False)
            bar.update()

        yield advance
