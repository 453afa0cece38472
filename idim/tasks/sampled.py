"""``few:ROWS:TASK``: a task that is scored on fewer rows, where scoring would cost more than training.

Its selection and report splits are the first ROWS of those of the task, in an order that a hash of the row's number
gives; where a split has no more than that, it stays. Training rows are the task's own.
"""

from __future__ import annotations

import dataclasses
import functools
import re

from idim.errors import RequestError
from idim.tasks import metrics
from idim.tasks.task import Split, Task, hashed_order
from idim.tasks.texts import Texts

NAME = re.compile("([1-9][0-9]{0,6}):(.+)", re.DOTALL)


def parse(argument: str) -> tuple[int, str]:
    """Return the number of rows and the task's name of what follows ``few:``.

    Raises:
        RequestError: for another form.
    """
    parts = NAME.fullmatch(argument)
    if parts is None:
        raise RequestError(f"task 'few:ROWS:TASK' needs a number of rows and a task; received {'few:' + argument!r}")
    return int(parts[1]), parts[2]


@functools.lru_cache(maxsize=4)
def sampled(task: Task, rows: int) -> Task:
    """Return the task with at most so many rows to score."""
    selection, report = _cut(task.selection, rows), _cut(task.report, rows)
    return dataclasses.replace(
        task,
        name=f"few:{rows}:{task.name}",
        selection=selection,
        report=report,
        chance=metrics.chance(task.metric, report.targets),
        fingerprint=f"{task.fingerprint}-{rows}",
    )


def _cut(split: Split, rows: int) -> Split:
    if len(split) <= rows:
        return split
    chosen = hashed_order(len(split), "few")[:rows]
    inputs = split.inputs
    return Split(
        inputs=inputs.take(chosen.tolist()) if isinstance(inputs, Texts) else inputs[chosen],
        targets=split.targets[chosen],
    )
