"""What engine and store cost a run beyond its training, and how much faster two workers are than one.

*Overhead*: a sweep of 1,000 trivial runs (one step of a tiny network) on worker processes, and on Ray where it is
installed. A run reports the seconds
of its own training; the rest of the wall time, times the workers, is the cost of engine and store. Workers start
before the clock. *Scaling*: a 25th as many runs, of about half a second each, on one worker and on two, in turn, after
one run each has loaded what workers load. On a busy machine both are upper bounds; the load is in the report.

    python -m benchmarks.sweep_overhead [--runs 1000] [--repeats 3] [--workers 2]
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from idim import tasks
from idim.runs import Engine, Processes, Ray, RunSpec, Store

MAKERS: dict[str, Callable[[Store, int], Engine]] = {
    "processes": lambda store, workers: Processes(store, workers=workers),
    "ray": lambda store, workers: Ray(store, workers=workers),
}


def specs(runs: int, *, steps: int, width: int, first: int = 0) -> list[RunSpec]:
    """Return so many runs of a network of one hidden layer on digits, d = 10."""
    task = tasks.load("digits")
    recipe = dataclasses.replace(task.recipe, steps=steps)
    return [
        RunSpec(
            task=task.name, fingerprint=task.fingerprint, model=f"mlp:{width}", method="subspace",
            projection="hadamard", d=10, lr=0.1, recipe=recipe, seed=first + seed,
        )
        for seed in range(runs)
    ]  # fmt: skip


def timed(
    work: Sequence[RunSpec], warm: Sequence[RunSpec], workers: int, engine: str = "processes"
) -> tuple[float, float]:
    """Return wall seconds and the sum of the trainings' own seconds, of a fresh store and warm workers."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Store(Path(folder) / "store") as store,
        MAKERS[engine](store, workers) as at_work,
    ):
        at_work.map(warm)
        began = time.perf_counter()
        outcomes = at_work.map(work)
        wall = time.perf_counter() - began
    return wall, sum(outcome.result.seconds for outcome in outcomes.values() if outcome.result)


def overhead(runs: int, workers: int, engine: str = "processes") -> dict[str, float]:
    """Return milliseconds a run beyond the training, and what makes them up."""
    work, warm = specs(runs, steps=1, width=4), specs(4 * workers, steps=1, width=4, first=10**6)
    wall, inside = timed(work, warm, workers, engine)
    return {"ms": 1e3 * (wall * workers - inside) / runs, "wall": wall, "trainings": inside}


def scaling(runs: int) -> dict[str, float]:
    """Return the wall seconds of one and of two workers on the same runs."""
    work = specs(runs, steps=600, width=64)
    walls = {n: timed(work, specs(n, steps=1, width=64, first=10**6), n)[0] for n in (1, 2)}
    return {"one": walls[1], "two": walls[2], "ratio": walls[1] / walls[2]}


def run(runs: int = 1000, repeats: int = 3, workers: int = 2) -> dict[str, Any]:
    """Return the medians over repeats, the single figures, and the machine's load."""
    load = os.getloadavg()[0]
    costs = [overhead(runs, workers) for _ in range(repeats)]
    speeds = [scaling(max(4, runs // 25)) for _ in range(repeats)]
    return ray_overhead(runs, repeats, workers) | {
        "runs": runs,
        "workers": workers,
        "load before": load,
        "overhead ms a run": statistics.median(cost["ms"] for cost in costs),
        "two workers beside one": statistics.median(speed["ratio"] for speed in speeds),
        "overhead": costs,
        "scaling": speeds,
    }


def ray_overhead(runs: int, repeats: int, workers: int) -> dict[str, Any]:
    """Return the same cost on Ray, its median and the single figures; nothing where it is not installed."""
    if importlib.util.find_spec("ray") is None:
        return {}
    costs = [overhead(runs, workers, "ray") for _ in range(repeats)]
    return {"ray overhead ms a run": statistics.median(cost["ms"] for cost in costs), "ray overhead": costs}


def main() -> None:
    """Print the report as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    print(json.dumps(run(arguments.runs, arguments.repeats, arguments.workers), indent=2))


if __name__ == "__main__":
    main()
