"""How a run trains, as a value: optimizer, schedule, batches, steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from idim.errors import RequestError, unknown

Optimizer = Literal["adam", "adamw", "sgd", "lbfgs"]
Schedule = Literal["cosine", "constant"]
Precision = Literal["float32", "float64", "bfloat16"]
TrainOn = Literal["train", "train+selection"]

CHOICES = {
    "optimizer": get_args(Optimizer),
    "schedule": get_args(Schedule),
    "precision": get_args(Precision),
    "train_on": get_args(TrainOn),
}


LATER = ("accumulate", "warmup", "length", "bucketed", "dropout")
"""Fields that came after runs had been stored: left out of a run's plain data where they are at their default."""


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
        precision: of parameters and data; coordinates and fresh heads are never less precise than float32.
        train_on: ``train+selection`` gives the selection rows back to training.
        accumulate: parts of a batch that go through the network one after another.
        warmup: share of the steps over which the learning rate rises linearly from zero.
        length: tokens after which a text is cut; 0: where the network must.
        bucketed: batches hold rows of similar length, from a shuffled pool of 32 batches.
        dropout: the dropout rates of a pretrained network's configuration; else none.

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
    accumulate: int = 1
    warmup: float = 0.0
    length: int = 0
    bucketed: bool = False
    dropout: bool = False

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
        if self.accumulate < 1:
            raise RequestError(f"accumulate must be at least 1; received {self.accumulate}")
        if self.length < 0:
            raise RequestError(f"length must be at least 0 tokens; received {self.length}")
        if not 0 <= self.warmup < 1:
            raise RequestError(f"warmup must be in [0, 1), a share of the steps; received {self.warmup}")
        if self.optimizer == "lbfgs" and (self.batch_size or self.l2):
            raise RequestError(
                f"lbfgs takes batch_size 0 and l2 0; received batch_size {self.batch_size}, l2 {self.l2}"
            )
        object.__setattr__(self, "l2", float(self.l2))
        object.__setattr__(self, "warmup", float(self.warmup))
