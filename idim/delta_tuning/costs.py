"""The costs of all methods: each (method, precision) in a fresh process, what is known already read from a file.

Times differ from machine to machine and from hour to hour, so costs are no runs: they go to ``costs.json`` beside the
report, with the environment they belong to, and are measured again in another one.
"""

from __future__ import annotations

import json
import platform
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from idim.delta_tuning.cost import BATCHES, PRECISIONS, Cost, CostPrecision
from idim.delta_tuning.job import Job, target_of
from idim.files import write_json
from idim.runs.child import environment as child_environment
from idim.runs.environment import versions
from idim.tasks import Recipe, Task

COMMAND = ("-P", "-m", "idim.delta_tuning.measuring")
FILE = "costs.json"
USUAL_LENGTH = 64  # tokens, where a recipe does not cut texts
CLOCK = "processor time"
WORDS: dict[str, CostPrecision] = {"float32": "fp32", "bfloat16": "bf16"}


def of_recipe(cells: Iterable[Cost], method: str, recipe: Recipe) -> Cost | None:
    """Return the cell of a method at the batch size and precision it trained with; None where there is none."""
    precision = WORDS.get(recipe.precision, "fp32")
    same = [cell for cell in cells if cell.method == method and cell.precision == precision]
    return next((cell for cell in same if recipe.batch_size in (0, cell.batch)), None)


def jobs(task: Task, model: str, recipe: Recipe, names: Iterable[str], extent: str) -> list[Job]:
    """Return what is to be measured: one batch size at the recipe's precision (``auto``), or all (``full``)."""
    usual = WORDS.get(recipe.precision, "fp32")
    precisions = PRECISIONS if extent == "full" else (usual,)
    own = recipe.batch_size or len(task.train)
    batches = tuple(sorted({*BATCHES, own})) if extent == "full" else (own,)
    return [
        Job(
            model=model,
            input_shape=task.input_shape,
            outputs=task.outputs,
            target=target_of(task),
            method=name,
            precision=precision,
            batches=batches,
            length=0 if task.input_shape else recipe.length or USUAL_LENGTH,
        )
        for precision in precisions
        for name in names
    ]


def costs_of(wanted: Sequence[Job], folder: Path, *, quiet: bool = True) -> tuple[Cost, ...]:
    """Return the cost of every cell, from the file of the folder where it has them, and keep them there.

    A cell that failed is measured again.
    """
    from tqdm.auto import tqdm

    known = {cost.cell: cost for cost in read(folder)}
    for job in tqdm(wanted, unit=" methods", desc="costs", disable=quiet, leave=False):
        if any(cell not in known or known[cell].failed for cell in job.cells):
            known |= {cost.cell: cost for cost in measured(job)}
            write(folder, known.values())
    return tuple(known[cell] for job in wanted for cell in job.cells)


def measured(job: Job) -> list[Cost]:
    """Return the costs of a job, measured in a process of its own; a cell that fails says why."""
    process = subprocess.run(
        [sys.executable, *COMMAND],
        input=json.dumps(job.to_json()),
        stdout=subprocess.PIPE,
        env=child_environment(),
        text=True,
        check=False,
    )
    lines = [json.loads(line) for line in process.stdout.splitlines() if line.endswith("}")]
    return [_cost(job, batch, lines, process.returncode) for batch in job.batches]


def _cost(job: Job, batch: int, lines: Sequence[dict[str, Any]], status: int) -> Cost:
    figures: dict[str, Any] = {}
    for line in lines:
        if line.get("batch", batch) == batch:
            figures |= line
    figures["batch"] = batch
    if status and "failed" not in figures and "inference_ms" not in figures:
        figures["failed"] = f"the process ended of {_ending(status)}"
    if "failed" in figures:
        return Cost(**_place(job, batch), failed=f"{figures['failed']} ({_sizes(batch, job.length)})")
    if base := figures.pop("merged_base_ms", None):
        figures["merged_ms"] *= figures["base_ms"] / base  # both at the speed of the machine at the time of the base
    return Cost(**_place(job, batch) | figures)


def _place(job: Job, batch: int) -> dict[str, Any]:
    return {"method": job.method, "precision": job.precision, "batch": batch, "length": job.length}


def _sizes(batch: int, length: int) -> str:
    return f"batch of {batch} rows" + (f" of {length} tokens" if length else "")


def _ending(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"status {status}"


def read(folder: Path) -> list[Cost]:
    """Return the costs kept in a folder that belong to this environment; none where there are none."""
    try:
        content = json.loads((folder / FILE).read_text())
        if content["environment"] != environment():
            return []
        return [Cost.from_json(cell) for cell in content["costs"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def write(folder: Path, costs: Iterable[Cost]) -> None:
    """Keep costs, with the environment they belong to."""
    write_json(folder / FILE, {"environment": environment(), "costs": [cost.to_json() for cost in costs]})


def environment() -> dict[str, Any]:
    """Return what costs depend on beside what is measured."""
    machine = {"machine": platform.machine(), "processor": _processor(), "clock": CLOCK, "threads": 1}
    return machine | versions()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
