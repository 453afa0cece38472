"""Writing a basis, piece by piece or at once, in the form of :mod:`idim.projections.basis_file`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal

import torch
from torch import Tensor

from idim.errors import RequestError, unknown
from idim.files import replace_file
from idim.parameters import Layout, digest
from idim.projections.basis_file import FORM, LENGTH_BYTES, WORDS

Precision = Literal["float32", "bfloat16", "float16"]
Block = tuple[int, Sequence[int]]
PAGE = 4096  # tensors begin at a page of the mapped file
SLACK = 512  # what the header may grow by until it is written, at the end
LARGEST_HALF_SCALE = 2.0**-15  # a column of one number, 1, is stored as 2**15: float16 ends at 65504
OFF = 1e-2  # columns further than this from orthonormal are somebody's mistake, not rounding


class BasisWriter:
    """The open file of a basis that is being written; its pieces may come in any order.

    Args:
        file: opened for writing bytes.
        layout: the parameters, in the order of the rows.
        blocks: runs of parameters that share columns: how many, and the numbers of their columns, ascending.
        precision: of the stored numbers.
        base: hash of the parameters that the columns start from, or "".
        learned: what they were learned from, as JSON; it may be added to until the file is closed.
    """

    def __init__(
        self,
        file: BinaryIO,
        layout: Layout,
        blocks: Sequence[Block],
        *,
        precision: Precision = "float32",
        base: str = "",
        learned: Mapping[str, Any],
    ) -> None:
        words = {str(dtype).removeprefix("torch."): (word, dtype) for word, (_, dtype) in WORDS.items()}
        if precision not in words:
            raise unknown("precision of a basis", precision, words)
        self.word, self.dtype = words[precision]
        self.file, self.layout, self.base = file, layout, base
        self.blocks = [(count, list(columns)) for count, columns in blocks]
        self.learned = dict(learned)
        self.scale = half_scale(layout.D) if precision == "float16" else 1.0
        self.counts = [len(columns) for count, columns in self.blocks for _ in range(count)]
        self.starts = self._starts()
        self.begin = -(-(LENGTH_BYTES + len(self._header()) + SLACK) // PAGE) * PAGE
        file.truncate(self.begin + self.starts[-1])

    def _starts(self) -> list[int]:
        starts = [0]
        for count, size in zip(self.counts, self.layout.sizes, strict=True):
            starts.append(starts[-1] + count * size * self.dtype.itemsize)
        return starts

    def write(self, index: int, start: int, values: Tensor) -> Tensor:
        """Write rows [start, start + n) of parameter ``index``, [its columns, n], and return them as stored."""
        stored = (values if self.scale == 1 else values / self.scale).to(self.dtype)
        size, item = self.layout.sizes[index], self.dtype.itemsize
        for j, column in enumerate(stored):
            self.file.seek(self.begin + self.starts[index] + (j * size + start) * item)
            self.file.write(column.contiguous().view(torch.uint8).numpy().data)
        return stored

    def finish(self) -> None:
        """Write the header: the file is a basis then."""
        header = self._header()
        self.file.seek(0)
        length = self.begin - LENGTH_BYTES
        self.file.write(length.to_bytes(LENGTH_BYTES, "little") + header.ljust(length))

    def _header(self) -> bytes:
        record = {
            "format": FORM.format,
            "names": list(self.layout.names),
            "columns": len({number for _, columns in self.blocks for number in columns}),
            "blocks": self.blocks,
            "scale": self.scale,
            "base": self.base,
            "learned": self.learned,
        }
        entries = {
            name: {"dtype": self.word, "shape": [self.counts[i], *shape], "data_offsets": self.starts[i : i + 2]}
            for i, (name, shape) in enumerate(zip(self.layout.names, self.layout.shapes, strict=True))
        }
        return json.dumps({"__metadata__": {FORM.key: json.dumps(record, allow_nan=False)}, **entries}).encode()


@contextmanager
def basis_writer(path: Path, layout: Layout, blocks: Sequence[Block], **options: Any) -> Iterator[BasisWriter]:
    """Yield a writer; the file takes its name when all went well (options: :class:`BasisWriter`)."""
    with replace_file(path) as temporary, temporary.open("wb") as file:
        writer = BasisWriter(file, layout, blocks, **options)
        yield writer
        writer.finish()


def save_basis(
    path: Path,
    columns: Tensor,
    tensors: Mapping[str, Tensor],
    *,
    learned: Mapping[str, Any],
    precision: Precision = "float32",
    fits_any: bool = False,
) -> None:
    """Write a basis that is in memory.

    Args:
        path: the file.
        columns: [D, k], orthonormal, the most telling first; rows are those of ``tensors`` end to end.
        tensors: the parameters by name at the values that the columns start from.
        learned: what they were learned from, as JSON, for people.
        precision: of the stored numbers.
        fits_any: for parameters of these names and shapes at any values.

    Raises:
        RequestError: for another number of rows, or columns that are not orthonormal.
    """
    layout = Layout.of(tensors)
    if columns.ndim != 2 or columns.shape[0] != layout.D or not 1 <= columns.shape[1] <= layout.D:
        raise RequestError(f"columns must have shape [{layout.D}, k]; received {list(columns.shape)}")
    exact = columns.detach().double()
    off = float((exact.T @ exact - torch.eye(columns.shape[1], dtype=torch.float64)).abs().max())
    if not off <= OFF:
        raise RequestError(f"the columns of a basis must be orthonormal; received some that are {off:.2g} off")
    base = "" if fits_any else digest(tensors)
    block = (len(layout.names), range(columns.shape[1]))
    with basis_writer(path, layout, [block], precision=precision, base=base, learned=learned) as writer:
        for index in range(len(layout.names)):
            writer.write(index, 0, exact[layout.offsets[index] : layout.offsets[index + 1]].T)


def half_scale(D: int) -> float:
    """Return what float16 numbers stand for, so that entries of usual size, 1/√D, are stored near 1."""
    return max(LARGEST_HALF_SCALE, 2.0 ** -round(math.log2(D) / 2))
