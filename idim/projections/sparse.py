r"""Very sparse random projection: each entry is zero but with a small probability.

Li, Hastie and Church take entries :math:`\pm 1/\sqrt{D s}` with probability :math:`s = 1/\sqrt D`, else zero.
Here every entry is, independently,

.. math::
    P_{rj} = \frac{1}{\sqrt{D s}} \sum_{i=1}^{N_{rj}} \sigma_i, \qquad N_{rj} \sim \mathrm{Poisson}(s),

a sum of :math:`N` random signs, which has the same mean and variance, so :math:`\mathbb{E}[P^\top P] = I`, and
differs from theirs where :math:`N \ge 2`, with probability about :math:`s^2/2 = 1/(2D)` an entry. It costs
O(D d s) instead of O(D d): by Poisson splitting, a block of R rows holds Poisson(R d s) signs, each at a row
and a column drawn uniformly, and nothing is drawn for the zeros.

References:
    P. Li, T. J. Hastie, K. W. Church, "Very Sparse Random Projections", KDD 2006.
    D. Achlioptas, "Database-friendly random projections", 2003 (s = 1/3).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import ClassVar

import numba
import numpy as np
import torch
from torch import Tensor

from idim.errors import RequestError
from idim.kernels.bits import Key, hash32, stream_key
from idim.kernels.numba_bits import hash32 as hash32_compiled
from idim.projections.chunked import Chunked

MEAN = 512  # signs in a block: the words of a block then stay in the first-level cache
MOST_ROWS = 256


@dataclass(frozen=True, kw_only=True)
class Sparse(Chunked):
    """Independent sparse entries of the given ``density``, in (0, 1]; None is 1/√D."""

    density: float | None = None

    kind: ClassVar[str] = "sparse"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.density is not None and not 0 < self.density <= 1:
            raise RequestError(f"density must be in (0, 1]; received {self.density}")

    @classmethod
    def parse(cls, option: str) -> dict[str, object]:
        """Read "sparse:0.01" as the density."""
        try:
            return {"density": float(option)}
        except ValueError:
            raise RequestError(f"option of 'sparse' must be a density in (0, 1]; received {option!r}") from None

    @property
    def _density(self) -> float:
        return self.density or 1 / math.sqrt(self.D)

    @property
    def _scale(self) -> float:
        return 1 / math.sqrt(self.D * self._density)

    @property
    def _block(self) -> int:
        """Rows in a block: the power of two nearest below MEAN signs, between 1 and MOST_ROWS."""
        rows = max(1.0, min(MOST_ROWS, MEAN / (self.d * self._density)))
        return 1 << int(math.log2(rows))

    @property
    def _thresholds(self) -> Tensor:
        return poisson_thresholds(self._block * self.d * self._density)

    @property
    def _keys(self) -> tuple[Key, Key, Key]:
        """Keys of the number of signs of a block, of their rows and signs, of their columns."""
        return tuple(stream_key(self.seed, f"sparse/{word}") for word in ("counts", "rows", "columns"))  # type: ignore[return-value]

    def _entries(self, start: int, stop: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return row - start, column and sign of the nonzeros of rows [start, stop)."""
        size, (counts, places, columns) = self._block, self._keys
        thresholds = self._thresholds.to(like.device)
        blocks = torch.arange(start // size, (stop - 1) // size + 1, device=like.device)
        number = torch.searchsorted(thresholds, hash32(counts, blocks), right=True)
        first = number.cumsum(0) - number
        within = torch.arange(int(number.sum()), device=like.device) - first.repeat_interleave(number)
        block = blocks.repeat_interleave(number)
        index = (block << 32) + within
        place = hash32(places, index)
        row = block * size + (place * size >> 32) - start
        inside = (row >= 0) & (row < stop - start)
        column = hash32(columns, index) * self.d >> 32
        return row[inside], column[inside], (1 - 2 * (place & 1)).to(like.dtype)[inside]

    def _lift_reference(self, z: Tensor, start: int, stop: int) -> Tensor:
        rows, columns, sign = self._entries(start, stop, z)
        return z.new_zeros(stop - start).index_add_(0, rows, z[columns] * sign) * self._scale

    def _pull_reference(self, g: Tensor, start: int) -> Tensor:
        rows, columns, sign = self._entries(start, start + g.numel(), g)
        return g.new_zeros(self.d).index_add_(0, columns, g[rows] * sign) * self._scale

    def _lift_compiled(self, z: np.ndarray, start: int, out: np.ndarray) -> None:
        out[:] = 0
        _lift(z, start, self._block, self._thresholds.numpy(), np.array(self._keys), out)
        out *= self._scale

    def _pull_compiled(self, g: np.ndarray, start: int, total: np.ndarray) -> None:
        part = np.zeros(self.d)
        _pull(g, start, self._block, self._thresholds.numpy(), np.array(self._keys), part)
        total += part * self._scale


@functools.lru_cache(maxsize=8)
def poisson_thresholds(mean: float) -> Tensor:
    """Return floor(2**32 F(k)), int64, for k = 0, 1, … and F the Poisson law's distribution function.

    A 32-bit number that is at least the first k thresholds, and no more, stands for k. Terms are built
    outwards from the mode by products and quotients alone, which every machine rounds the same.
    """
    mode = int(mean)
    reach = int(8 * math.sqrt(mean) + 24)
    below = [1.0]
    for k in range(mode, max(0, mode - reach), -1):
        below.append(below[-1] * k / mean)
    above = [1.0]
    for k in range(mode + 1, mode + reach):
        above.append(above[-1] * mean / k)
    terms = [0.0] * (mode + 1 - len(below)) + below[::-1] + above[1:]
    total = math.fsum(terms)
    running = np.cumsum(np.array(terms)) / total * 2.0**32
    return torch.from_numpy(np.minimum(running, 2.0**32).astype(np.int64))


@numba.njit(nogil=True, cache=True)
def _draw(block: int, thresholds: np.ndarray, keys: np.ndarray, place: np.ndarray, column: np.ndarray) -> int:
    """Write the words of the signs of a block, and return how many there are."""
    k = keys.astype(np.uint32)
    count_word = hash32_compiled(k[0, 0], k[0, 1], np.uint32(block), np.uint32(block >> 32))
    count = int(np.searchsorted(thresholds, np.int64(count_word), side="right"))
    for i in range(count):
        place[i] = hash32_compiled(k[1, 0], k[1, 1], np.uint32(i), np.uint32(block))
    for i in range(count):
        column[i] = hash32_compiled(k[2, 0], k[2, 1], np.uint32(i), np.uint32(block))
    return count


@numba.njit(inline="always")
def _below(word: np.uint32, bound: int) -> np.uint64:
    return (np.uint64(word) * np.uint64(bound)) >> np.uint64(32)


@numba.njit(nogil=True, cache=True)
def _lift(z: np.ndarray, start: int, size: int, thresholds: np.ndarray, keys: np.ndarray, out: np.ndarray) -> None:
    place, column = np.empty(thresholds.size, dtype=np.uint32), np.empty(thresholds.size, dtype=np.uint32)
    for block in range(start // size, (start + out.size - 1) // size + 1):
        first = block * size - start
        for i in range(_draw(block, thresholds, keys, place, column)):
            row = first + np.int64(_below(place[i], size))
            if 0 <= row < out.size:
                x = z[_below(column[i], z.size)]
                out[np.uint64(row)] += -x if place[i] & np.uint32(1) else x


@numba.njit(nogil=True, cache=True)
def _pull(g: np.ndarray, start: int, size: int, thresholds: np.ndarray, keys: np.ndarray, total: np.ndarray) -> None:
    place, column = np.empty(thresholds.size, dtype=np.uint32), np.empty(thresholds.size, dtype=np.uint32)
    for block in range(start // size, (start + g.size - 1) // size + 1):
        first = block * size - start
        for i in range(_draw(block, thresholds, keys, place, column)):
            row = first + np.int64(_below(place[i], size))
            if 0 <= row < g.size:
                x = g[np.uint64(row)]
                total[_below(column[i], total.size)] += -x if place[i] & np.uint32(1) else x
