"""The score along a training, on a few rows that are the same in every run of a task.

At most :data:`ROWS` rows of the selection split, those that a hash of the task's data draws; the report split is
never looked at before the end. Scoring draws no random number and changes no training.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor, nn

from idim.models.init import generator
from idim.runs.rows import Rows, rows_of
from idim.runs.spec import RunSpec
from idim.tasks import Task

ROWS = 512


class Curve:
    """The points of a curve as they are found.

    Args:
        spec: says at how many steps.
        task: whose selection split is used.
        score: of the module over rows.
    """

    def __init__(self, spec: RunSpec, task: Task, score: Callable[[Rows], float]) -> None:
        self.steps = frozenset(evaluation_steps(spec))
        self.rows = sample(spec, task) if self.steps else None
        self.score = score
        self.points: list[tuple[int, float]] = []

    def after_step(self, step: int, module: nn.Module) -> None:
        """Score the module if it is time, and leave it in train mode."""
        if self.rows is not None and step in self.steps:
            self.points.append((step, self.score(self.rows)))
            module.train()


def evaluation_steps(spec: RunSpec) -> list[int]:
    """Return the numbers of steps after which a run is scored: evenly spaced, the last is the end."""
    return [round((i + 1) * spec.recipe.steps / spec.evaluations) for i in range(spec.evaluations)]


def sample(spec: RunSpec, task: Task) -> Rows:
    """Return the rows that a curve is measured on, in the order of the split."""
    rows = rows_of(spec, task.selection)
    if len(rows) <= ROWS:
        return rows
    drawn = torch.randperm(len(rows), generator=generator(0, f"curve/{task.fingerprint}"))[:ROWS].sort().values
    fields = {field.name: getattr(rows, field.name) for field in dataclasses.fields(rows)}
    return Rows(**{name: value[drawn] if isinstance(value, Tensor) else value for name, value in fields.items()})
