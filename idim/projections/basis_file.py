"""A basis on disk: the columns of a learned projection, tensor by tensor, in one safetensors file.

The tensor under the name of a parameter has shape [columns, *shape of the parameter], so any rows of the first few
columns are read without the rest. The metadata entry ``idim.basis`` is a JSON object:

===========  ==================================================================================================
``format``   version of this description
``names``    the parameters in the order of the rows
``columns``  number of columns of the whole
``blocks``   runs of parameters that share columns: [how many parameters, the numbers of their columns, ascending];
             other columns are zero there
``scale``    what the stored numbers are to be multiplied with, a power of two: small numbers keep their digits
``base``     hash of the parameters that the columns start from, or "" where they start from anything
``learned``  what the columns were learned from and how, for people; its ``sources`` is a hash of those numbers
===========  ==================================================================================================

A file is mapped, not read: a pass over the columns brings them in at the speed of memory or disk, and what memory
cannot hold is let go of again.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from idim.errors import RequestError
from idim.projections.learned_files import Form

LENGTH_BYTES = 8
WORDS: dict[str, tuple[type[np.generic], torch.dtype]] = {
    "F32": (np.float32, torch.float32),
    "BF16": (np.uint16, torch.bfloat16),
    "F16": (np.int16, torch.float16),
}  # as :mod:`idim.kernels.columns` tells them apart
FORM = Form(
    kind="basis",
    format=1,
    fields={"names": list, "columns": int, "blocks": list, "scale": float, "base": str, "learned": dict},
    maker="idim subspace learn",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """One parameter of a basis: its shape, its columns [m, rows] as stored, and their numbers in the whole."""

    name: str
    shape: tuple[int, ...]
    stored: NDArray[Any]
    columns: NDArray[np.int64]
    dtype: torch.dtype

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.stored.shape[1])

    def within(self, d: int) -> int:
        """Return how many of its columns are among the first d of the whole."""
        return int(np.searchsorted(self.columns, d))

    def read(self, count: int, start: int, stop: int, like: Tensor) -> Tensor:
        """Return rows [start, stop) of its first columns, [count, stop - start], in the dtype and place of ``like``."""
        words = torch.from_numpy(np.array(self.stored[:count, start:stop]))
        return words.view(self.dtype).to(like)


@dataclass(frozen=True, kw_only=True, eq=False)
class BasisFile:
    """An open basis (see the module)."""

    path: Path
    pieces: tuple[Piece, ...]
    columns: int
    scale: float
    base: str
    learned: Mapping[str, Any]

    @functools.cached_property
    def D(self) -> int:
        """Number of rows."""
        return sum(piece.rows for piece in self.pieces)

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """Of the parameters, in the order of the file."""
        return tuple(piece.name for piece in self.pieces)

    @functools.cached_property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of the parameters."""
        return tuple(piece.shape for piece in self.pieces)


def open_basis(path: Path | str) -> BasisFile:
    """Open a basis.

    Raises:
        RequestError: when the file cannot be read, is cut short, or is no basis.
    """
    path = Path(path)
    try:
        with safe_open(path, framework="numpy") as checked:  # checks that header and tensors fill the file
            metadata = checked.metadata() or {}
    except (OSError, SafetensorError) as error:
        line = " ".join(str(error).split())
        raise RequestError(f"a basis must be a whole safetensors file; received {path}: {line}") from error
    record = _record(path, metadata)
    return BasisFile(
        path=path,
        pieces=tuple(_pieces(path, record)),
        columns=record["columns"],
        scale=record["scale"],
        base=record["base"],
        learned=record["learned"],
    )


def _record(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    record = FORM.read(path, metadata)
    if not (math.isfinite(record["scale"]) and record["scale"] > 0):
        raise RequestError(f"the scale of a basis must be above 0; received {record['scale']} in {path}")
    return record


def _pieces(path: Path, record: Mapping[str, Any]) -> list[Piece]:
    places, begin = _places(path)
    content = np.memmap(path, dtype=np.uint8, mode="r")
    shared = _shared_columns(path, record)
    if sorted(places) != sorted(record["names"]):
        raise RequestError(
            f"a basis must have a tensor for each of its {len(record['names'])} names; received {len(places)} in {path}"
        )
    found = []
    for name, columns in zip(record["names"], shared, strict=True):
        place = places[name]
        shape = tuple(place["shape"])
        if place["dtype"] not in WORDS or len(shape) < 1 or shape[0] != len(columns):
            raise RequestError(
                f"tensor {name!r} of a basis must have {len(columns)} columns of {', '.join(WORDS)}; "
                f"received {place['dtype']} {list(shape)} in {path}"
            )
        word, dtype = WORDS[place["dtype"]]
        first, last = place["data_offsets"]
        flat = np.asarray(content[begin + first : begin + last]).view(word)
        stored = flat.reshape(len(columns), math.prod(shape[1:]))
        found.append(Piece(name=name, shape=shape[1:], stored=stored, columns=columns, dtype=dtype))
    return found


def _places(path: Path) -> tuple[dict[str, Any], int]:
    """Return the entries of a header that was found in order, and where the tensors begin."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        places = json.loads(file.read(length))
    places.pop("__metadata__", None)
    return places, LENGTH_BYTES + length


def _shared_columns(path: Path, record: Mapping[str, Any]) -> list[NDArray[np.int64]]:
    """Return the numbers of the columns of every parameter."""
    try:
        blocks = [(int(count), np.array(columns, dtype=np.int64)) for count, columns in record["blocks"]]
        found = list(itertools.chain.from_iterable([columns] * count for count, columns in blocks))
        ordered = all(c.ndim == 1 and (c[:1] >= 0).all() and (np.diff(c) > 0).all() for _, c in blocks)
        together = {int(number) for _, columns in blocks for number in columns}
    except (TypeError, ValueError, OverflowError):
        ordered, found, together = False, [], set()
    if not ordered or len(found) != len(record["names"]) or together != set(range(record["columns"])):
        raise RequestError(f"the blocks of a basis must share out its names and columns; received others in {path}")
    return found
