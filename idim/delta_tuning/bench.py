"""The workbench: makes the specs of the runs of a table, and trains them through an engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from idim.delta_tuning.request import MethodsRequest
from idim.runs import Engine, Outcome, RunSpec
from idim.runs.heads import HEAD_LR
from idim.tasks import Recipe, Task

PROBE = "probe"
Progress = Callable[[str, Outcome], None]
"""Told the stage and each run that was trained now."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """One network, task and recipe.

    Args:
        task, model, recipe: what every run shares.
        headed: whether the network has a fresh last layer, which is trained at ``head_lr`` beside every method.
        evaluations: looks at the selection split during the runs that are reported.
    """

    task: Task
    model: str
    recipe: Recipe
    headed: bool
    head_lr: float = HEAD_LR
    evaluations: int

    def trial(self, method: str, lr: float) -> RunSpec:
        """Return the spec of a training that shows what a rate is worth."""
        return RunSpec(
            task=self.task.name,
            fingerprint=self.task.fingerprint,
            model=self.model,
            method=method,
            lr=lr,
            recipe=self.recipe,
            seed=0,
            head="trained" if self.headed else "inside",
            head_lr=self._head_lr(method, lr),
        )

    def reported(self, method: str, lr: float, seed: int) -> RunSpec:
        """Return the spec of a training whose score is reported; the first one's change is looked into."""
        return dataclasses.replace(self.trial(method, lr), seed=seed, evaluations=self.evaluations, anatomy=seed == 0)

    def _head_lr(self, method: str, lr: float) -> float | None:
        """Return the rate of the head: its own, except where the head is all there is to tune."""
        if not self.headed:
            return None
        return lr if method == PROBE else self.head_lr


def recipe_for(request: MethodsRequest, task: Task) -> Recipe:
    """Return the task's recipe with what the request puts in place of its own."""
    asked: dict[str, Any] = {
        "steps": request.steps,
        "batch_size": request.batch,
        "length": request.length,
        "precision": request.precision,
    }
    return dataclasses.replace(task.recipe, **{name: value for name, value in asked.items() if value is not None})


def train(engine: Engine, specs: Iterable[RunSpec], stage: str, progress: Progress) -> Sequence[Outcome]:
    """Train what the store lacks; return the outcomes in the order of the specs."""
    wanted = list(specs)
    outcomes = engine.map(wanted, progress=lambda outcome: progress(stage, outcome))
    return [outcomes[spec.key] for spec in wanted]
