"""A small MNIST for networks that are slow on two cores: ``python -m experiments.small_mnist``.

Writes idx files of the first rows of both files of MNIST to ``idim-out/mnist_small``, to be read as
``idx:idim-out/mnist_small``: 6,000 rows, of which one twelfth chooses rates, and 1,000 that are reported.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from idim.files import replace_file
from idim.tasks import idx
from idim.tasks.folder import dataset
from idim.tasks.images import PREFIXES, find

FOLDER = Path("idim-out") / "mnist_small"
ROWS = {"train": 6000, "test": 1000}
BYTES = 0x08


def write(path: Path, values: idx.Array) -> None:
    """Write an array of bytes in the idx format."""
    header = bytes((0, 0, BYTES, values.ndim)) + np.array(values.shape, dtype=">u4").tobytes()
    with replace_file(path) as temporary:
        temporary.write_bytes(header + values.astype(np.uint8).tobytes())


def main() -> None:
    """Write the four files."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    source = dataset("mnist", None)
    for split, rows in ROWS.items():
        for kind in ("images", "labels"):
            write(FOLDER / f"{PREFIXES[split][0]}-{kind}", idx.read(find(source, split, kind))[:rows])


if __name__ == "__main__":
    main()
