"""A task: rows to train on, rows to choose by, rows to report, a loss and a score.

The *selection* split chooses a learning rate and nothing else; the *report* split gives the score
that is reported, once, after the last step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from idim.tasks import metrics
from idim.tasks.metrics import Metric, majority
from idim.tasks.recipe import Recipe
from idim.tasks.texts import Texts

__all__ = ["Metric", "Split", "Task", "fingerprint", "hashed_order", "majority"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Rows of a task: inputs [n, ...] or n texts, and targets, class numbers [n] (int64) or values [n, 1].

    Texts whose target is their own next token have targets [n, 0].
    """

    inputs: Tensor | Texts
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def foretold(self) -> bool:
        """Whether what is asked of a text is its own next token."""
        return self.targets.ndim == 2 and not self.targets.shape[1]


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """What a network is asked to learn, and how it is judged.

    Attributes:
        name: what :func:`idim.tasks.load` was given.
        train, selection, report: the three splits.
        metric: how answers are scored (:mod:`idim.tasks.metrics`).
        chance: score of the best constant answer on the report split; nan where there is none.
        input_shape: shape of one row, without the batch; () for texts.
        outputs: number of values the network returns for a row.
        default_model, default_bar, recipe: what a measure uses when nothing else is asked.
        fingerprint: BLAKE2b over the arrays, hex: part of the key of every run.
    """

    name: str
    train: Split
    selection: Split
    report: Split
    metric: Metric
    chance: float
    input_shape: tuple[int, ...]
    outputs: int
    default_model: str
    default_bar: str
    recipe: Recipe
    fingerprint: str

    @property
    def next_token(self) -> bool:
        """Whether the task is to foretell each next token of a text."""
        return self.metric == "perplexity"

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy (class numbers, next tokens) or mean squared error (values) over the rows."""
        if self.next_token:
            return outputs.sum() / targets.sum().clamp(min=1)
        return F.mse_loss(outputs, targets) if targets.is_floating_point() else F.cross_entropy(outputs, targets)

    def score(self, outputs: Tensor, targets: Tensor) -> float:
        """Return the score over the rows given: the metric, or minus the logarithm of a perplexity."""
        return metrics.score(self.metric, outputs, targets)


def fingerprint(preparation: str, arrays: Iterable[np.ndarray[Any, np.dtype[Any]]]) -> str:
    """Return the BLAKE2b of raw arrays and of the name of what is done to them: 32 hex digits.

    The raw arrays are hashed, not the scaled ones, so that rounding on another machine does not
    make another task; a change of scaling or splitting changes ``preparation``.
    """
    digest = hashlib.blake2b(preparation.encode(), digest_size=16)
    for array in arrays:
        digest.update(f"|{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def hashed_order(rows: int, stream: str) -> Tensor:
    """Return a fixed permutation of the row numbers: rows sorted by the hash of their number.

    The same on every platform and library version, and blind to the order rows are stored in.
    """
    keys = [hashlib.blake2b(f"{stream}/{row}".encode(), digest_size=8).digest() for row in range(rows)]
    return torch.tensor(sorted(range(rows), key=keys.__getitem__))
