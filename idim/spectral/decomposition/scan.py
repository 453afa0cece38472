r"""One pass over a pair of matrices: everything a judgement needs, in blocks of rows.

The difference of the stored numbers is taken in float64, where it is exact for float32 and narrower formats, and
never exists as a whole. With the long side first, :math:`\Delta^\top\Delta` is added up block by block by a
product that uses the symmetry (half the work), beside the sums of squares by row and by column of the change
and of the grid's spacing. A block is one to four million entries; the Gram matrix of the smaller side is the only
large array.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from idim.errors import RequestError
from idim.spectral.reading.grids import Grid, grid_of

Floats = NDArray[np.float64]

BLOCK_ENTRIES, WIDE_BLOCK_ENTRIES, WIDE = 2**20, 2**22, 1024
SAMPLE = 2**12
LARGEST_GRAM = 8192
GOLDEN = 0.6180339887498949


@dataclass(frozen=True, kw_only=True, eq=False)
class Sums:
    """Sums over one kind of square: by row [long side], by column [short side]."""

    rows: Floats
    columns: Floats

    @property
    def total(self) -> float:
        """Return the sum over all entries."""
        return float(self.rows.sum())

    def __add__(self, other: Sums) -> Sums:
        return Sums(rows=self.rows + other.rows, columns=self.columns + other.columns)

    def kept(self, whole: Sums, change: Sums, fraction: float) -> Sums:
        """Return these sums and ``fraction`` of what ``whole`` has more in the rows and columns of ``change``."""
        touched, across = change.rows > 0, change.columns > 0
        added_rows = fraction * across.mean() * (whole.rows - self.rows) * touched
        added_columns = fraction * touched.mean() * (whole.columns - self.columns) * across
        balance = added_rows.sum() / max(added_columns.sum(), 1e-300)
        return Sums(rows=self.rows + added_rows, columns=self.columns + balance * added_columns)

    def scaled(self, factor: float) -> Sums:
        """Return the sums times ``factor``."""
        return Sums(rows=self.rows * factor, columns=self.columns * factor)


@dataclass(frozen=True, kw_only=True, eq=False)
class Scan:
    """What one pass has seen; "rows" are those of the longer side of the matrix.

    Args:
        shape: (long, short).
        gram: ΔᵀΔ of the short side, float64; None where that side is above ``LARGEST_GRAM``.
        change: squares of Δ.
        base_square: ‖base‖²_F.
        unchanged: number of weights that are the base's, rounded to the tuned grid.
        tuned_spacing, moved_spacing: squared spacings of the tuned grid, of all and of the changed weights.
        base_spacing: the same of the base's grid, where it is not within the tuned one's; else None.
        largest_spacing: largest spacing of the tuned grid.
        tuned_grid, base_grid: the grids on which the numbers lie.
        sample: spacings of the tuned grid at up to 4,096 weights, of rows and columns that have changed.
    """

    shape: tuple[int, int]
    gram: Floats | None = field(repr=False)
    change: Sums
    base_square: float
    unchanged: int
    tuned_spacing: Sums
    moved_spacing: Sums
    base_spacing: Sums | None
    largest_spacing: float
    tuned_grid: Grid
    base_grid: Grid
    sample: Floats = field(repr=False)

    @property
    def size(self) -> int:
        """Number of weights."""
        return self.shape[0] * self.shape[1]

    @property
    def support(self) -> tuple[int, int]:
        """Return how many rows and columns have changed anywhere, in the order (long, short)."""
        return int(np.count_nonzero(self.change.rows)), int(np.count_nonzero(self.change.columns))


def upright(matrix: Tensor) -> Tensor:
    """Return the matrix, or its transpose, with the longer side first: a view."""
    return matrix if matrix.shape[0] >= matrix.shape[1] else matrix.t()


def block_rows(columns: int) -> int:
    """Return how many rows a block has: more for wide matrices, where adding up the products would show."""
    return max(1, (BLOCK_ENTRIES if columns < WIDE else WIDE_BLOCK_ENTRIES) // columns)


def blocks(base: Tensor, tuned: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield row blocks of two upright matrices: the rows, the base's block, the tuned block."""
    step = block_rows(tuned.shape[1])
    for start in range(0, tuned.shape[0], step):
        rows = slice(start, min(start + step, tuned.shape[0]))
        yield rows, base[rows], tuned[rows]


def differences(base: Tensor, tuned: Tensor) -> Iterator[tuple[slice, Floats]]:
    """Yield the row blocks of the change of two upright matrices, float64."""
    for rows, before, after in blocks(base, tuned):
        yield rows, _difference(before, after)


def _difference(before: Tensor, after: Tensor) -> Floats:
    narrow = before.double() if before.itemsize == 1 else before
    found: Floats = after.to(torch.float64, copy=True).sub_(narrow).numpy()
    return found


def add_gram(gram: Floats | None, block: Floats) -> Floats:
    """Return ``gram`` plus blockᵀ block, in place where there is one; numpy sees the symmetry and halves the work."""
    added: Floats = block.T @ block
    return added if gram is None else np.add(gram, added, out=gram)


def scan(base: Tensor, tuned: Tensor, *, name: str = "the matrix") -> Scan:
    """Return the sums of a pair of matrices of the same shape [m, n], in their stored formats.

    Raises:
        RequestError: when the difference is not finite.
    """
    base, tuned = upright(base.detach()), upright(tuned.detach())
    total = _Total(base, tuned)
    for rows, before, after in blocks(base, tuned):
        if not total.add(rows, before, after):
            raise RequestError(f"every weight must be finite; received NaN or infinity in {name!r}")
    return total.finished()


class _Total:
    """The running sums of a pass."""

    def __init__(self, base: Tensor, tuned: Tensor) -> None:
        m, n = tuned.shape
        self.base, self.tuned = base, tuned
        self.tuned_grid, self.base_grid = grid_of(tuned), grid_of(base)
        self.on_grid = self.base_grid.within(self.tuned_grid)
        self.coarser_base = self.tuned_grid.within(self.base_grid) is False and self.on_grid
        self.gram: Floats | None = None
        self.small = n <= LARGEST_GRAM
        self.change_rows, self.change_columns = np.zeros(m), np.zeros(n)
        self.spacing_rows, self.spacing_columns = np.zeros(m), np.zeros(n)
        self.moved_rows, self.moved_columns = np.zeros(m), np.zeros(n)
        self.base_rows, self.base_columns = np.zeros(m), np.zeros(n)
        self.base_square, self.unchanged, self.largest = 0.0, 0, 0.0

    def add(self, rows: slice, before: Tensor, after: Tensor) -> bool:
        """Add a block; return whether it is finite."""
        difference = _difference(before, after)
        self.change_rows[rows] = np.einsum("ij,ij->i", difference, difference)
        if not math.isfinite(float(self.change_rows[rows].sum())):
            return False
        if self.small:
            self.gram = add_gram(self.gram, difference)
        else:
            self.change_columns += np.einsum("ij,ij->j", difference, difference)
        wide = before.float().numpy() if before.dtype != torch.float64 else before.numpy()
        self.base_square += float(np.einsum("ij,ij->i", wide, wide).sum(dtype=np.float64))
        self._add_spacings(rows, after, difference)
        if self.coarser_base:
            squares = self.base_grid.spacing(before).double().square_().numpy()
            self.base_rows[rows] = squares.sum(1)
            self.base_columns += squares.sum(0)
        if self.on_grid:
            self.unchanged += difference.size - int(np.count_nonzero(difference))
        else:
            self.unchanged += int((self.tuned_grid.round(before.double()) == after.double()).sum())
        return True

    def _add_spacings(self, rows: slice, after: Tensor, difference: Floats) -> None:
        spacing = self.tuned_grid.spacing(after)
        largest = float(spacing.max())
        self.largest = max(self.largest, largest)
        # relative to the largest, so that squares of tiny spacings stay inside float32
        squares = spacing.div_(largest).square_()
        square = largest * largest
        self.spacing_rows[rows] = squares.sum(1).double().numpy() * square
        self.spacing_columns += squares.sum(0).double().numpy() * square
        still = difference == 0
        if still.any():
            squares = squares * torch.from_numpy(~still)
            self.moved_rows[rows] = squares.sum(1).double().numpy() * square
            self.moved_columns += squares.sum(0).double().numpy() * square
        else:
            self.moved_rows[rows] = self.spacing_rows[rows]
            self.moved_columns += squares.sum(0).double().numpy() * square

    def finished(self) -> Scan:
        columns = self.change_columns if self.gram is None else np.diagonal(self.gram).copy()
        return Scan(
            shape=(self.tuned.shape[0], self.tuned.shape[1]),
            gram=self.gram,
            change=Sums(rows=self.change_rows, columns=columns),
            base_square=self.base_square,
            unchanged=self.unchanged,
            tuned_spacing=Sums(rows=self.spacing_rows, columns=self.spacing_columns),
            moved_spacing=Sums(rows=self.moved_rows, columns=self.moved_columns),
            base_spacing=Sums(rows=self.base_rows, columns=self.base_columns) if self.coarser_base else None,
            largest_spacing=self.largest,
            tuned_grid=self.tuned_grid,
            base_grid=self.base_grid,
            sample=_sample(self.tuned, self.tuned_grid, self.change_rows, columns),
        )


def _sample(tuned: Tensor, grid: Grid, rows: Floats, columns: Floats) -> Floats:
    """Return the spacings at weights spread over the rows and columns that have changed anywhere."""
    touched, across = np.flatnonzero(rows), np.flatnonzero(columns)
    count = min(SAMPLE, len(touched) * len(across))
    # multiples of an irrational number, modulo one, are spread evenly whatever the period of a structure
    at = ((np.arange(count) * GOLDEN) % 1 * len(touched) * len(across)).astype(np.int64)
    i, j = torch.from_numpy(touched[at // len(across)]), torch.from_numpy(across[at % len(across)])
    found: Floats = grid.spacing(tuned[i, j]).double().numpy()
    return found
