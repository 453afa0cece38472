r"""Columns of the identity: d of the native parameters are trained, the others stay where they are.

With distinct rows :math:`r_0, …, r_{d-1}`, :math:`P_{r_j, j} = 1` and all else is zero, so
:math:`P^\top P = I` exactly. Given as ``ranges`` of rows these are the methods that tune a part of a
model: all biases (BitFit), the last layers, the layer norms. Without ranges the rows are random, the
first d values of a random permutation of all D; raising d keeps the first columns.

References:
    E. Ben Zaken, S. Ravfogel, Y. Goldberg, "BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based
    Masked Language-models", 2021, arXiv:2106.10199.
    Y.-L. Sung, V. Nair, C. Raffel, "Training Neural Networks with Fixed Sparse Masks", 2021, arXiv:2111.09839.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from idim.errors import RequestError
from idim.kernels.permutation import permutation
from idim.projections.base import Projection, compute_dtype

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)
class Selector(Projection):
    """Random rows, or the rows of ``ranges``: pairs (start, stop), increasing, disjoint, d rows together."""

    ranges: Ranges = ()

    kind: ClassVar[str] = "selector"
    nested: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ranges:
            self._check_ranges()

    def _check_ranges(self) -> None:
        edges = [0, *(edge for pair in self.ranges for edge in pair), self.D]
        if edges != sorted(edges):
            raise RequestError(f"ranges must increase within [0, D = {self.D}]; received {self.ranges}")
        chosen = sum(stop - start for start, stop in self.ranges)
        if chosen != self.d:
            raise RequestError(f"ranges must select d = {self.d} rows; they select {chosen}")

    def selected(self) -> tuple[Tensor, Tensor]:
        """Return the selected rows in increasing order, and the column of each: two int64 tensors [d]."""
        rows, columns = _selected(self.D, self.d, self.seed, self.ranges)
        return rows.clone(), columns.clone()

    def _within(self, start: int, stop: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the selected rows among [start, stop), minus ``start``, and their columns."""
        rows, columns = _selected(self.D, self.d, self.seed, self.ranges)
        low, high = torch.searchsorted(rows, torch.tensor([start, stop])).tolist()
        return (rows[low:high] - start).to(device), columns[low:high].to(device)

    def _lift(self, z: Tensor, start: int, out: Tensor, base: Tensor | None) -> None:
        rows, columns = self._within(start, start + out.numel(), z.device)
        chosen = z[columns] if base is None else z[columns] + base[rows]
        if base is None:
            out.zero_()
        else:
            out.copy_(base)
        out[rows] = chosen.to(out.dtype)

    def _pull(self, g: Tensor, start: int) -> Tensor:
        rows, columns = self._within(start, start + g.numel(), g.device)
        total = torch.zeros(self.d, dtype=compute_dtype(g), device=g.device)
        total[columns] = g[rows].to(total.dtype)
        return total


@functools.lru_cache(maxsize=4)
def _selected(D: int, d: int, seed: int, ranges: Ranges) -> tuple[Tensor, Tensor]:
    """Return the selected rows in increasing order, and the column of each."""
    if ranges:
        return torch.cat([torch.arange(start, stop) for start, stop in ranges]), torch.arange(d)
    rows, columns = permutation(D, seed, "selector/rows")(torch.arange(d)).sort()
    return rows, columns
