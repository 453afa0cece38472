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
import functools
import itertools
from collections.abc import Iterator
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
from idim.projections.learned_files import OfFile, checked_digest

Segment = tuple[Piece, int, int, slice]


@dataclass(frozen=True, kw_only=True)
class Basis(OfFile, Chunked):
    """The first d columns of a basis file.

    Raises:
        RequestError: for a file that is no basis or has another hash, more columns asked for than it has, or
            another D than its own.
    """

    kind: ClassVar[str] = "basis"
    nested: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.d > self.file.columns:
            raise RequestError(
                f"d must be at most the {self.file.columns} columns of the basis {self.path}; received d = {self.d}"
            )

    @classmethod
    def most_d(cls, option: str, *, D: int, layers: tuple[int, ...]) -> int:
        """Return the number of columns of the file."""
        path, wanted = parted(option)
        return min(D, _opened(path, checked_digest(cls.kind, path, wanted)).columns)

    @property
    def file(self) -> BasisFile:
        """The open file."""
        return _opened(self.path, self.digest)

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
