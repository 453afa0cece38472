r"""Explicit columns, learned from data and stored: a basis (:mod:`idim.projections.basis_file`).

.. math::
    P = [q_1, …, q_d], \qquad q_i^\top q_j = \delta_{ij} \text{ to the rounding of the stored numbers},

with the :math:`q` in the order of their weight, so that a smaller d is the first d columns. A basis has no seed: every
seed gives the same P. It names the parameters it was learned over, so a :class:`~idim.subspace.Subspace` takes its
rows in the order of its own model, and refuses a basis of other parameters or, where the basis says from which it
starts, of other values (:meth:`Basis.fitted`).

Both products read each stored number once. Cost: the bytes of d columns, at the speed of memory.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import itertools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from idim.errors import RequestError
from idim.kernels import columns
from idim.models.origin import file_digest, parted
from idim.parameters import digest as digest_of
from idim.projections.basis_file import BasisFile, Piece, open_basis
from idim.projections.chunked import Chunked

Segment = tuple[Piece, int, int, slice]


@dataclass(frozen=True, kw_only=True)
class Basis(Chunked):
    """The first d columns of a basis file.

    Args:
        path: the file.
        digest: its hash, 16 hex digits; found if not given, and checked if given.
        order: its parameters by number, in the order of the rows; () for the order of the file.

    Raises:
        RequestError: for a file that is no basis or has another hash, more columns asked for than it has, or
            another D than its own.
    """

    path: str = ""
    digest: str = ""
    order: tuple[int, ...] = ()

    kind: ClassVar[str] = "basis"
    nested: ClassVar[bool] = True
    learned: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "digest", _checked_digest(self.path, self.digest))
        if self.D != self.file.D:
            raise RequestError(
                f"a projection has as many rows as the model has parameters, D = {self.D}; received the basis "
                f"{self.path} of {self.file.D} rows: it was learned over others"
            )
        if self.d > self.file.columns:
            raise RequestError(
                f"d must be at most the {self.file.columns} columns of the basis {self.path}; received d = {self.d}"
            )
        if self.order and sorted(self.order) != list(range(len(self.file.pieces))):
            raise RequestError(f"order must name each of {len(self.file.pieces)} tensors once; received {self.order}")

    @classmethod
    def parse(cls, option: str) -> dict[str, object]:
        """Read "basis:FILE", or "basis:FILE@HASH" of a file that must have this hash."""
        path, wanted = parted(option)
        return {"path": path, "digest": wanted}

    @classmethod
    def most_d(cls, option: str, *, D: int, layers: tuple[int, ...]) -> int:
        """Return the number of columns of the file."""
        path, wanted = parted(option)
        return min(D, _opened(path, _checked_digest(path, wanted)).columns)

    @classmethod
    def pin(cls, option: str) -> str:
        """Return ``FILE@HASH``."""
        path, wanted = parted(option)
        return f"{path}@{_checked_digest(path, wanted)}"

    @property
    def file(self) -> BasisFile:
        """The open file."""
        return _opened(self.path, self.digest)

    def fitted(self, tensors: Mapping[str, Tensor]) -> Basis:
        """Return the same map with its rows in the order of these tensors.

        Names may differ by one common prefix.

        Raises:
            RequestError: when names or shapes are not those of the basis, or it starts from other values.
        """
        pieces = self.file.pieces
        mine = {name: number for number, name in enumerate(_bare([piece.name for piece in pieces]))}
        theirs = dict(zip(_bare(list(tensors)), tensors.values(), strict=True))
        self._check_names(mine, theirs)
        for name, number in mine.items():
            if tuple(theirs[name].shape) != pieces[number].shape:
                raise RequestError(
                    f"tensor {pieces[number].name!r} must have shape {list(pieces[number].shape)}, as in the basis "
                    f"{self.path}; received {list(theirs[name].shape)}"
                )
        self._check_base({pieces[number].name: theirs[name] for name, number in mine.items()})
        order = tuple(mine[name] for name in theirs)
        return dataclasses.replace(self, order=() if order == tuple(range(len(order))) else order)

    def _check_names(self, mine: Mapping[str, int], theirs: Mapping[str, Tensor]) -> None:
        if odd := sorted(mine.keys() ^ theirs.keys()):
            whose = "the basis" if odd[0] in mine else "the model"
            raise RequestError(
                f"a basis must be over the parameters of the model inside the subspace; received {self.path}, where "
                f"{len(odd)} differ, such as {odd[0]!r}, only in {whose}"
            )

    def _check_base(self, tensors: Mapping[str, Tensor]) -> None:
        if (wanted := self.file.base) and (found := digest_of(tensors)) != wanted:
            raise RequestError(
                f"the model must be at the parameters that the basis {self.path} starts from, with hash {wanted}; "
                f"received {found}: take the same model and seed, or learn it to fit any"
            )

    # -- the map ------------------------------------------------------------------------------

    @functools.cached_property
    def _edges(self) -> tuple[int, ...]:
        """The first row of every tensor, and D."""
        return tuple(itertools.accumulate((self.file.pieces[i].rows for i in self._order), initial=0))

    @property
    def _order(self) -> tuple[int, ...]:
        return self.order or tuple(range(len(self.file.pieces)))

    def _segments(self, start: int, stop: int) -> Iterator[Segment]:
        """Yield the tensors that rows [start, stop) meet: columns among the first d, first row, place in the range."""
        pieces, low = self.file.pieces, start
        number = bisect.bisect_right(self._edges, start) - 1
        while low < stop:
            piece = pieces[self._order[number]]
            high = min(stop, self._edges[number + 1])
            yield piece, piece.within(self.d), low - self._edges[number], slice(low - start, high - start)
            number, low = number + 1, high

    def _lift_reference(self, z: Tensor, start: int, stop: int) -> Tensor:
        parts, scaled = [], z * self.file.scale
        for piece, count, first, place in self._segments(start, stop):
            chosen = scaled[torch.from_numpy(piece.columns[:count]).to(z.device)]
            parts.append(chosen @ piece.read(count, first, first + place.stop - place.start, z))
        return torch.cat(parts)

    def _pull_reference(self, g: Tensor, start: int) -> Tensor:
        total = g.new_zeros(self.d)
        for piece, count, first, place in self._segments(start, start + g.numel()):
            part = piece.read(count, first, first + place.stop - place.start, g) @ g[place]
            total.index_add_(0, torch.from_numpy(piece.columns[:count]).to(g.device), part)
        return total * self.file.scale

    def _lift_compiled(self, z: np.ndarray, start: int, out: np.ndarray) -> None:
        scaled = (z * self.file.scale).astype(z.dtype)
        for piece, count, first, place in self._segments(start, start + out.size):
            columns.lift(piece.stored, first, scaled[piece.columns[:count]], out[place])

    def _pull_compiled(self, g: np.ndarray, start: int, total: np.ndarray) -> None:
        for piece, count, first, place in self._segments(start, start + g.size):
            part = np.empty(count, dtype=g.dtype)
            columns.pull(piece.stored, first, g[place], part)
            total[piece.columns[:count]] += part.astype(np.float64) * self.file.scale


@functools.lru_cache(maxsize=16)
def _opened(path: str, digest: str) -> BasisFile:
    """Return the file that had this hash: opened once, so what replaces it later is not what is read."""
    return open_basis(Path(path))


def _checked_digest(path: str, wanted: str) -> str:
    if not os.path.isfile(path):
        hashed = f" with hash {wanted}" if wanted else ""
        raise RequestError(f"projection 'basis:FILE' needs a basis{hashed}; received {path!r}: no such file")
    if (found := file_digest(Path(path))) != wanted and wanted:
        raise RequestError(f"the basis {path} must have the hash {wanted}; received {found}")
    return found


def _bare(names: list[str]) -> list[str]:
    """Return the names without the modules that begin all of them.

    >>> _bare(["body.a.weight", "body.a.bias"]), _bare(["body.a.weight", "body.b.bias"])
    (['weight', 'bias'], ['a.weight', 'b.bias'])
    """
    modules = [name.split(".")[:-1] for name in names]
    shared = len(list(itertools.takewhile(lambda level: len(set(level)) == 1, zip(*modules, strict=False))))
    return [".".join(name.split(".")[shared:]) for name in names]
