"""``digits``: the 1,797 handwritten digits of 8 x 8 pixels that scikit-learn carries.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
Repository, 1998. Pixels (0 to 16) are standardised with the mean and deviation of all training
pixels; rows are split 60 / 20 / 20 by the hash of their number.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch

from idim.tasks.recipe import Recipe
from idim.tasks.task import Split, Task, fingerprint, hashed_order, majority

PREPARATION = "digits: standardised, hashed 60/20/20, version 1"
Pixels = np.ndarray[Any, np.dtype[np.uint8]]


@functools.cache
def load() -> Task:
    """Return the digits task: inputs [n, 1, 8, 8] float32, ten classes."""
    pixels, labels = _arrays()
    order = hashed_order(len(labels), "digits")
    first, second = len(order) * 3 // 5, len(order) * 4 // 5
    train, selection, report = order[:first], order[first:second], order[second:]
    inputs, targets = torch.from_numpy(pixels).double(), torch.from_numpy(labels).long()
    inputs = ((inputs - inputs[train].mean()) / inputs[train].std()).float().reshape(-1, 1, 8, 8)
    return Task(
        name="digits",
        train=Split(inputs=inputs[train], targets=targets[train]),
        selection=Split(inputs=inputs[selection], targets=targets[selection]),
        report=Split(inputs=inputs[report], targets=targets[report]),
        metric="accuracy",
        chance=majority(targets[report]),
        input_shape=(1, 8, 8),
        outputs=10,
        default_model="mlp:100",
        default_bar="0.9",
        recipe=Recipe(batch_size=64, steps=600),
        fingerprint=fingerprint(PREPARATION, (pixels, labels)),
    )


def _arrays() -> tuple[Pixels, Pixels]:
    """Return pixels [1797, 64] and labels [1797], as uint8."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return pixels.astype(np.uint8), labels.astype(np.uint8)
