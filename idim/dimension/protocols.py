"""Named ways to train: the recipe of every run of a measure, and the learning rate it implies.

``default`` is the task's own short recipe with a tuned learning rate. ``li2018`` is that of Li,
Farkhoor, Liu and Yosinski 2018, "Measuring the Intrinsic Dimension of Objective Landscapes",
arXiv:1804.08838, as their published code runs it: Adam at 1e-3 for every d, L2 1e-5, batches of
128, 100 epochs, a constant rate, all training rows.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from idim.dimension import rates
from idim.dimension.rates import RateRule
from idim.dimension.request import MeasureRequest
from idim.tasks import Recipe, Task

LI2018_EPOCHS = 100
LI2018_LR = 1e-3


@dataclass(frozen=True)
class Protocol:
    """A recipe, the learning-rate rule in subspaces and the rate of full training; None: tune it."""

    name: str
    recipe: Recipe
    rule: RateRule | None
    full_lr: float | None


def protocol_for(request: MeasureRequest, task: Task) -> Protocol:
    """Return how the runs of this request train; ``--lr`` and ``--reference-lr`` win over a protocol's rates."""
    recipe, rule, full_lr = task.recipe, None, None
    if request.protocol == "li2018":
        rows = len(task.train.targets) + len(task.selection.targets)
        recipe, full_lr = _li2018(rows), LI2018_LR
        rule = rates.fixed(LI2018_LR, "li2018")
    if recipe.optimizer == "lbfgs":
        full_lr = 1.0
        rule = rates.fixed(full_lr, "L-BFGS with a line search")
    if request.lr != "auto":
        rule = rates.given(*request.learning_rate)
    if request.reference_lr is not None:
        full_lr = request.reference_lr
    return Protocol(request.protocol, dataclasses.replace(recipe, **_changes(request)), rule, full_lr)


def _changes(request: MeasureRequest) -> dict[str, Any]:
    """Return what the request puts in place of the recipe's own."""
    asked = {
        "steps": request.steps,
        "batch_size": request.batch,
        "length": request.length,
        "precision": request.precision,
        "l2": request.weight_decay,
        "accumulate": request.accumulate,
        "dropout": request.dropout,
    }
    return {name: value for name, value in asked.items() if value is not None}


def _li2018(rows: int) -> Recipe:
    batch = 128
    return Recipe(
        optimizer="adam",
        schedule="constant",
        batch_size=batch,
        steps=LI2018_EPOCHS * math.ceil(rows / batch),
        l2=1e-5,
        train_on="train+selection",
    )
