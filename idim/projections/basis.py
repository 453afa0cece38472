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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from idim.errors import RequestError
from idim.kernels import columns
from idim.models.origin import parted
from idim.projections.basis_file import BasisFile, Piece, open_basis
from idim.projections.chunked import Chunked
from idim.projections.learned_files import check_base, checked_digest, order_of

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
        object.__setattr__(self, "digest", checked_digest(self.kind, self.path, self.digest))
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
        return min(D, _opened(path, checked_digest(cls.kind, path, wanted)).columns)

    @classmethod
    def pin(cls, option: str) -> str:
        """Return ``FILE@HASH``."""
        path, wanted = parted(option)
        return f"{path}@{checked_digest(cls.kind, path, wanted)}"

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
        order = order_of(
            self.kind, self.path, [piece.name for piece in pieces], [piece.shape for piece in pieces], tensors
        )
        named = {pieces[i].name: tensor for i, tensor in zip(order, tensors.values(), strict=True)}
        check_base(self.kind, self.path, self.file.base, named)
        return dataclasses.replace(self, order=() if order == tuple(range(len(order))) else order)

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
