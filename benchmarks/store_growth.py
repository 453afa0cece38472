"""A store of 100,000 runs: seconds and peak memory of ``idim status`` and of a figure's query.

The store is written through its own functions; each figure is taken in a process of its own, several times. Status
is timed as a user meets it, with the start of Python; the query without its imports, which it shares with the figure.

    python -m benchmarks.store_growth [--runs 100000] [--repeats 5]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from idim import tasks
from idim.runs import Outcome, RunResult, RunSpec, Store

BATCH = 1000
PEAK = """
peak = next(int(line.split()[1]) / 1e3 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([seconds, peak]))
"""
QUERY = f"""
import json, sys, time
from pathlib import Path
from idim.runs import table
ask = (Path(sys.argv[1]), ["spec.d", "spec.seed", "result.score"])
table.select(ask[0], ["key"], task="none")
began = time.perf_counter()
frame = table.select(*ask, task="digits", model="mlp:16", projection="hadamard")
seconds = time.perf_counter() - began
assert len(frame)
{PEAK}
"""
STATUS = f"""
import contextlib, io, json, sys
from idim.cli import main
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    main(["status", sys.argv[1]])
seconds = None
{PEAK}
"""


def fill(path: Path, runs: int) -> None:
    """Write so many finished runs, one in fifty of them failed."""
    task = tasks.load("digits")
    result = {"selection_score": 1 / 3, "train_loss": 0.1, "D": 1210, "steps": 500, "seconds": 0.5}
    with Store(path) as store:
        for first in range(0, runs, BATCH):
            specs = [
                RunSpec(
                    task="digits", fingerprint=task.fingerprint, model="mlp:16" if seed % 2 else "mlp:32",
                    method="subspace", projection="hadamard", d=1 + seed % 97, lr=0.1, recipe=task.recipe, seed=seed,
                )
                for seed in range(first, min(first + BATCH, runs))
            ]  # fmt: skip
            store.start(specs)
            store.finish([_outcome(spec, result) for spec in specs])


def _outcome(spec: RunSpec, result: dict[str, Any]) -> Outcome:
    if spec.seed % 50 == 0:
        return Outcome(spec=spec, message="TrainingFailed: the loss must stay finite; received nan at step 1")
    return Outcome(spec=spec, result=RunResult(score=spec.d / 97, trained=spec.d, **result))  # type: ignore[operator]


def measured(program: str, store: Path) -> tuple[float, float]:
    """Return seconds and peak megabytes of a program that looks at the store."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program, str(store)], check=True, capture_output=True, text=True)
    wall = time.perf_counter() - began
    seconds, megabytes = json.loads(done.stdout.splitlines()[-1])
    return wall if seconds is None else seconds, megabytes


def run(runs: int = 100_000, repeats: int = 5) -> dict[str, Any]:
    """Return, for status and query, the median and the largest seconds and the largest peak memory."""
    report: dict[str, Any] = {"runs": runs}
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), runs)
        report["store MB"] = (Path(folder) / "runs.sqlite").stat().st_size / 1e6
        for name, program in (("status", STATUS), ("query", QUERY)):
            times, peaks = zip(*(measured(program, Path(folder)) for _ in range(repeats)), strict=True)
            report[name] = {"seconds": statistics.median(times), "most": max(times), "peak MB": max(peaks)}
    return report


def main() -> None:
    """Print the report as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    print(json.dumps(run(arguments.runs, arguments.repeats), indent=2))


if __name__ == "__main__":
    main()
