"""Small idx folders for tests: whole ones, and ones with a fault."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Sequence
from pathlib import Path


def idx(path: Path, values: bytes, *shape: int) -> None:
    """Write an idx file of unsigned bytes."""
    path.write_bytes(gzip.compress(bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + values))


def idx_folder(
    folder: Path,
    *,
    images: int = 40,
    labels: int = 40,
    held: int | None = None,
    test_labels: Sequence[int] = (0, 1, 2, 0, 1, 2, 0, 1, 2, 0),
) -> Path:
    """Write an idx folder of 4 x 4 images; ``held`` is the number of training images really in the file."""
    folder.mkdir(parents=True)
    pixels = bytes(i % 251 for i in range(16 * (images if held is None else held)))
    idx(folder / "train-images-idx3-ubyte.gz", pixels, images, 4, 4)
    idx(folder / "train-labels-idx1-ubyte.gz", bytes(i % 3 for i in range(labels)), labels)
    idx(
        folder / "t10k-images-idx3-ubyte.gz",
        bytes(i % 251 for i in range(16 * len(test_labels))),
        len(test_labels),
        4,
        4,
    )
    idx(folder / "t10k-labels-idx1-ubyte.gz", bytes(test_labels), len(test_labels))
    return folder
