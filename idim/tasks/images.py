"""``mnist`` and ``idx:PATH``: any folder with the four idx files of images and labels.

Names start with ``train-images``, ``train-labels``, ``t10k-images`` (or ``test-images``) and
``t10k-labels`` (or ``test-labels``); each may end in ``.gz``. Pixels are scaled to [0, 1], bytes by 255 and
other numbers by the range of the training file, as in the work this is compared with (Li et al. 2018,
Gressmann et al. 2020): the scale of the inputs moves d_int. One twelfth of the training file (5,000 of 60,000 rows),
chosen by the hash of the row number, is the selection split; the test file is the report split.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from idim.errors import RequestError
from idim.tasks import idx
from idim.tasks.recipe import Recipe
from idim.tasks.task import Split, Task, fingerprint, hashed_order, majority

PREPARATION = "idx: pixels in [0, 1], hashed 11/12 and 1/12, version 2"
ROWS = 1024  # rows of one part when all pixels are added up
HELD = 12  # one training row in so many is a selection row
PREFIXES = {"train": ("train",), "test": ("t10k", "test")}
PARTS = [(split, kind) for split in PREFIXES for kind in ("images", "labels")]

Stamp = tuple[Path, int, int]  # a file, its size and its time of change


def load(name: str, folder: Path) -> Task:
    """Return the task of an idx folder: inputs [n, 1, height, width] float32.

    A folder is read once a process, as long as its files do not change.

    Raises:
        RequestError: for a missing folder or file, and for files that are broken or disagree.
    """
    stamps = [stamp(find(folder, split, kind)) for split, kind in PARTS]
    return _load(name, *stamps)


def find(folder: Path, split: str, kind: str) -> Path:
    """Return the file of a split ("train", "test") and a kind ("images", "labels") in an idx folder."""
    names = [f"{prefix}-{kind}" for prefix in PREFIXES[split]]
    found = sorted(path for path in folder.iterdir() if path.name.startswith(tuple(names)) and path.is_file())
    if not found:
        raise RequestError(f"{folder} must hold a file named {' or '.join(n + '*' for n in names)}; found none")
    return found[0]


def stamp(path: Path) -> Stamp:
    """Return a file with its size and time of change."""
    status = path.stat()
    return path.resolve(), status.st_size, status.st_mtime_ns


@dataclass(frozen=True, kw_only=True, eq=False)
class Images:
    """Rows of one pair of files: pixels [n, ...] as stored, labels [n] int64."""

    pixels: idx.Array
    labels: idx.Array


@functools.lru_cache(maxsize=2)
def _load(name: str, *stamps: Stamp) -> Task:
    train, test = _pair(stamps[0][0], stamps[1][0]), _pair(stamps[2][0], stamps[3][0])
    arrays = (train.pixels, train.labels, test.pixels, test.labels)
    return image_task(name, train, test, fingerprint=fingerprint(PREPARATION, arrays))


def image_task(
    name: str,
    train: Images,
    test: Images,
    *,
    fingerprint: str,
    default_model: str = "mlp:200,200",
    default_bar: str = "absolute:0.9",
) -> Task:
    """Return the task of two sets of images, one twelfth of the training rows being the selection split.

    Raises:
        RequestError: when their shapes differ, or their labels are not those of classes.
    """
    if train.pixels.shape[1:] != test.pixels.shape[1:]:
        raise RequestError(
            f"train and test images must have one shape; received {train.pixels.shape[1:]} and {test.pixels.shape[1:]}"
        )
    outputs = 1 + int(max(train.labels.max(), test.labels.max()))
    if not 2 <= outputs <= len(train.labels) or len(train.labels) < HELD:
        raise RequestError(
            f"labels must count from 0 to at least 1, with at least {HELD} training rows and as many as classes; "
            f"received {len(train.labels)} rows and labels up to {outputs - 1}"
        )
    scale = _scaler(train.pixels)
    targets = torch.from_numpy(train.labels)
    order = hashed_order(len(targets), "idx")
    held, kept = order[: len(order) // HELD].sort().values, order[len(order) // HELD :].sort().values
    inputs = scale(train.pixels[kept.numpy()])
    report = torch.from_numpy(test.labels)
    return Task(
        name=name,
        train=Split(inputs=inputs, targets=targets[kept]),
        selection=Split(inputs=scale(train.pixels[held.numpy()]), targets=targets[held]),
        report=Split(inputs=scale(test.pixels), targets=report),
        metric="accuracy",
        chance=majority(report),
        input_shape=tuple(inputs.shape[1:]),
        outputs=outputs,
        default_model=default_model,
        default_bar=default_bar,
        recipe=Recipe(),
        fingerprint=fingerprint,
    )


def _pair(images: Path, labels: Path) -> Images:
    pixels, numbers = idx.read(images), idx.read(labels)
    if pixels.ndim < 2 or pixels.size == 0:
        raise RequestError(f"{images} must hold rows of pixels; received shape {list(pixels.shape)}")
    if numbers.ndim != 1 or numbers.dtype.kind not in "ui":
        raise RequestError(f"{labels} must hold one class number a row; received {numbers.dtype} {list(numbers.shape)}")
    if len(pixels) != len(numbers):
        raise RequestError(
            f"images and labels must agree in number; received {len(pixels)} images in {images} "
            f"and {len(numbers)} labels in {labels}"
        )
    if numbers.min() < 0:
        raise RequestError(f"{labels} must count classes from 0; received {numbers.min()}")
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise RequestError(f"{images} must hold finite pixels; received {int((~np.isfinite(pixels)).sum())} others")
    return Images(pixels=pixels, labels=numbers.astype(np.int64))


def _scaler(pixels: idx.Array) -> Callable[[idx.Array], Tensor]:
    """Return the scaling that takes these pixels to [0, 1], one channel first for grey images."""
    low, high = (0.0, 255.0) if pixels.dtype == np.uint8 else (float(pixels.min()), float(pixels.max()))
    span = (high - low) or 1.0

    def scale(raw: idx.Array) -> Tensor:
        scaled = torch.from_numpy(raw.astype(np.float32)).sub_(low).div_(span)
        return scaled.unsqueeze(1) if scaled.ndim == 3 else scaled

    return scale
