"""How a run trains, as a value: optimizer, schedule, batches, steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from idim.errors import RequestError, unknown

Optimizer = Literal["adam", "adamw", "sgd", "lbfgs"]
Schedule = Literal["cosine", "constant"]
Precision = Literal["float32", "float64"]
TrainOn = Literal["train", "train+selection"]

CHOICES = {
    "optimizer": get_args(Optimizer),
    "schedule": get_args(Schedule),
    "precision": get_args(Precision),
    "train_on": get_args(TrainOn),
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way of training; the learning rate is not here, because it depends on d.

    Args:
        optimizer: ``adam``, ``adamw``, ``sgd`` (momentum 0.9) or ``lbfgs`` (full batch, strong Wolfe
            line search, the learning rate is its first trial step, ``steps`` bounds its iterations).
        schedule: ``cosine`` falls from the learning rate to zero, ``constant`` keeps it.
        batch_size: rows a step; 0 takes all rows.
        steps: optimizer steps.
        l2: weight decay on what the optimizer sees (z in a subspace): coupled, that is, the gradient of
            l2/2 times the squared norm, under ``adam`` and ``sgd``; decoupled under ``adamw``.
        precision: of parameters and data.
        train_on: ``train+selection`` gives the selection rows back to training.

    Raises:
        RequestError: for an unknown choice or a number out of range.
    """

    optimizer: Optimizer = "adam"
    schedule: Schedule = "cosine"
    batch_size: int = 128
    steps: int = 1500
    l2: float = 0.0
    precision: Precision = "float32"
    train_on: TrainOn = "train"

    def __post_init__(self) -> None:
        for field, choices in CHOICES.items():
            if getattr(self, field) not in choices:
                raise unknown(field, str(getattr(self, field)), choices)
        if self.steps < 1:
            raise RequestError(f"steps must be at least 1; received {self.steps}")
        if self.batch_size < 0:
            raise RequestError(f"batch_size must be at least 0 (0 takes all rows); received {self.batch_size}")
        if not (math.isfinite(self.l2) and self.l2 >= 0):
            raise RequestError(f"l2 must be finite and at least 0; received {self.l2}")
        if self.optimizer == "lbfgs" and (self.batch_size or self.l2):
            raise RequestError(
                f"lbfgs takes batch_size 0 and l2 0; received batch_size {self.batch_size}, l2 {self.l2}"
            )
        object.__setattr__(self, "l2", float(self.l2))
