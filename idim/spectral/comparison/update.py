r"""An update as it is compared with others: a change without the rounding that all tuned models share.

Two models tuned from one float32 base and saved in bfloat16 differ from it by their changes and by the
rounding of the base, which is the same in both: unrelated changes far below the grid then have a cosine
of 0.99. So a weight that is the base's, rounded to the grid of the tuned numbers, counts as unchanged.

What remains cannot be taken away without knowing the change: where it is below the grid, the base
decides which weights move and which way. Measured on independent Gaussian changes of a float32 base
saved in bfloat16:

=================================  =====  =====  =====  =====  =====
weights kept still                 0.94   0.69   0.43   0.17   0.02
cosine of the stored differences   0.91   0.28   0.01   0.00   0.00
cosine as compared here            0.29   0.20   0.07   0.00   0.00
=================================  =====  =====  =====  =====  =====

and none of it (0.00 throughout) where the base itself lies on the grid of the tuned numbers. The
overlap of leading spaces is chance in all of these but for changes in hundredths of a spacing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from idim.spectral.decomposition.directions import Directions, of_factors, of_matrix, row_blocks, times
from idim.spectral.pairing.delta import Delta, Factors
from idim.spectral.reading.grids import grid_of

DECIDES = 0.25  # of the weights kept still by rounding: from there unrelated changes have a cosine to speak of


@dataclass(frozen=True, kw_only=True, eq=False)
class Update:
    """The change of one tensor.

    Attributes:
        name: of the tensor.
        shape: (m, n) as analysed; of a vector as stored.
        change: of that shape, float32 or wider; or an adapter's factors.
        still: fraction of the weights that are the base's, rounded to a coarser grid; 0 where the grid is not coarser.
    """

    name: str
    shape: tuple[int, ...]
    change: Tensor | Factors
    still: float = 0.0

    @property
    def vector(self) -> bool:
        """Whether the tensor is no matrix, and has no directions."""
        return len(self.shape) != 2

    def directions(self, k: int) -> Directions:
        """Return at most k leading directions; none of a vector.

        Raises:
            RequestError: when an entry is not finite.
        """
        if isinstance(self.change, Factors):
            return of_factors(self.change, k, name=self.name)
        matrix = self.change.reshape(1, -1) if self.vector else self.change
        return of_matrix(matrix, k, name=self.name).first(0 if self.vector else k)


def update_of(delta: Delta) -> Update:
    """Return the change of a tensor without what rounding did to its base."""
    shape = delta.matrix or delta.shape
    if delta.factors is not None:
        return Update(name=delta.name, shape=shape, change=delta.factors)
    change = delta.difference()
    if delta.base is None or delta.tuned is None:
        return Update(name=delta.name, shape=shape, change=change)
    grid = grid_of(delta.tuned)
    if grid_of(delta.base).within(grid):
        return Update(name=delta.name, shape=shape, change=change)
    still, dtype = 0, getattr(torch, grid.name)
    for part, before, after in zip(*map(_blocks, (change, delta.base, delta.tuned)), strict=True):
        kept = before.to(dtype).double() == after.double()
        part[kept] = 0.0
        still += int(kept.sum())
    return Update(name=delta.name, shape=shape, change=change, still=still / delta.size)


def inner_product(a: Update, b: Update) -> float:
    """Return ⟨ΔA, ΔB⟩; of two adapters through their factors, at the cost of r × r matrices."""
    first, second = a.change, b.change
    if isinstance(first, Factors):
        first, second = second, first
    if isinstance(first, Factors) and isinstance(second, Factors):
        left, right = first.up.double().T @ second.up.double(), first.down.double() @ second.down.double().T
        return first.scale * second.scale * float((left * right).sum())
    assert isinstance(first, Tensor)  # of two, factors come second
    if isinstance(second, Factors):
        across = times(first, second.up.double(), transpose=True).T
        return second.scale * float((across * second.down.double()).sum())
    blocks = zip(_blocks(first), _blocks(second), strict=True)
    return math.fsum(float((x.double() * y.double()).sum()) for x, y in blocks)


def shared_rounding(a: Update, b: Update) -> str:
    """Return "", or what the reader should know of rounding that both updates share."""
    if min(a.still, b.still) < DECIDES:
        return ""
    return (
        f"rounding to a grid coarser than the base's kept {a.still:.0%} and {b.still:.0%} of the weights still: "
        "it also decides which others moved, so unrelated changes have a cosine of up to 0.3"
    )


def _blocks(tensor: Tensor) -> tuple[Tensor, ...]:
    return row_blocks(tensor if tensor.ndim == 2 else tensor.reshape(1, -1))
