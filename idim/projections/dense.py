r"""Dense random projection: independent entries of mean zero and variance 1/D, regenerated, never stored.

.. math::
    P_{rj} = x_{rj} / \sqrt D, \qquad \mathbb{E}\,x = 0,\; \mathbb{E}\,x^2 = 1, \qquad \mathbb{E}[P^\top P] = I.

``law="sign"`` draws :math:`x = \pm 1`, and one 32-bit word gives 32 entries of a row: the law to train with.
``law="gaussian"`` draws :math:`x \sim N(0, 1)`, one word an entry: the paper's law, some ten times slower.
Entries do not depend on d, so raising d keeps the first columns. Cost: O(D d).

References:
    C. Li, H. Farkhoor, R. Liu, J. Yosinski, "Measuring the Intrinsic Dimension of Objective Landscapes", 2018,
    arXiv:1804.08838 (Gaussian).
    D. Achlioptas, "Database-friendly random projections", 2003 (signs).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numba
import numpy as np
import torch
from torch import Tensor

from idim.errors import unknown
from idim.kernels.bits import Key, gaussians, hash32, normal_quantiles, stream_key
from idim.kernels.numba_bits import hash32 as hash32_compiled
from idim.projections.chunked import Chunked

GROUP = 32  # columns whose signs share a word
LANES = 64  # rows that a compiled loop works on together: a few vector registers

LAWS = ("sign", "gaussian")


@dataclass(frozen=True, kw_only=True)
class Dense(Chunked):
    """Independent entries of the given ``law``."""

    law: Literal["sign", "gaussian"] = "sign"

    kind: ClassVar[str] = "dense"
    nested: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.law not in LAWS:
            raise unknown("law of 'dense'", self.law, LAWS)

    @classmethod
    def parse(cls, option: str) -> dict[str, object]:
        """Read "dense:sign" or "dense:gaussian"."""
        if option not in LAWS:
            raise unknown("law of 'dense'", option, LAWS)
        return {"law": option}

    @property
    def _key(self) -> Key:
        return stream_key(self.seed, f"dense/{self.law}")

    @property
    def _scale(self) -> float:
        return 1 / math.sqrt(self.D)

    def _columns(self, start: int, stop: int, like: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield rows [start, stop) of x, a group of columns at a time: their range and [stop - start, GROUP]."""
        rows = torch.arange(start, stop, device=like.device).unsqueeze(1)
        for first in range(0, self.d, GROUP):
            columns = torch.arange(first, min(first + GROUP, self.d), device=like.device)
            if self.law == "gaussian":
                entries = gaussians(self._key, columns * self.D + rows)
            else:
                words = hash32(self._key, first // GROUP * self.D + rows)
                entries = 1 - 2 * (words >> (columns - first) & 1)
            yield slice(first, first + len(columns)), entries.to(like.dtype)

    def _lift_reference(self, z: Tensor, start: int, stop: int) -> Tensor:
        total = z.new_zeros(stop - start)
        for group, entries in self._columns(start, stop, z):
            total += entries @ z[group]
        return total * self._scale

    def _pull_reference(self, g: Tensor, start: int) -> Tensor:
        return torch.cat([entries.T @ g for _, entries in self._columns(start, start + g.numel(), g)]) * self._scale

    def _lift_compiled(self, z: np.ndarray, start: int, out: np.ndarray) -> None:
        if self.law == "sign":
            _lift_signs((z * self._scale).astype(z.dtype), start, self.D, *self._key, out)
        else:
            _lift_gaussians(
                (z * self._scale).astype(z.dtype), start, self.D, *self._key, normal_quantiles().numpy(), out
            )

    def _pull_compiled(self, g: np.ndarray, start: int, total: np.ndarray) -> None:
        part = np.zeros(self.d)
        if self.law == "sign":
            _pull_signs(g, start, self.D, *self._key, part)
        else:
            _pull_gaussians(g, start, self.D, *self._key, normal_quantiles().numpy(), part)
        total += part * self._scale


@numba.njit(inline="always")
def _fill(words: np.ndarray, index: int, key0: int, key1: int) -> None:
    """Write the stream's numbers at index, index + 1, … into ``words``."""
    first = np.uint64(index)
    for i in range(words.size):
        n = first + np.uint64(i)
        words[i] = hash32_compiled(np.uint32(key0), np.uint32(key1), np.uint32(n), np.uint32(n >> np.uint64(32)))


@numba.njit(nogil=True, cache=True)
def _lift_signs(z: np.ndarray, start: int, D: int, key0: int, key1: int, out: np.ndarray) -> None:
    words, total = np.empty(LANES, dtype=np.uint32), np.empty(LANES, dtype=z.dtype)
    for row in range(0, out.size, LANES):
        total[:] = 0
        for first in range(0, z.size, GROUP):
            _fill(words, first // GROUP * D + start + row, key0, key1)
            for j in range(min(GROUP, z.size - first)):
                plus, bit = z[first + j], np.uint32(1) << np.uint32(j)
                for i in range(LANES):
                    total[i] += -plus if words[i] & bit else plus
        count = min(LANES, out.size - row)
        out[row : row + count] = total[:count]


@numba.njit(nogil=True, cache=True)
def _pull_signs(g: np.ndarray, start: int, D: int, key0: int, key1: int, total: np.ndarray) -> None:
    words, padded = np.empty(LANES, dtype=np.uint32), np.zeros(-(-g.size // LANES) * LANES, dtype=g.dtype)
    padded[: g.size] = g
    lanes = np.empty((GROUP, LANES), dtype=g.dtype)
    for first in range(0, total.size, GROUP):
        lanes[:] = 0
        count = min(GROUP, total.size - first)
        for row in range(0, g.size, LANES):
            _fill(words, first // GROUP * D + start + row, key0, key1)
            x = padded[row : row + LANES]
            for j in range(count):
                bit, sums = np.uint32(1) << np.uint32(j), lanes[j]
                for i in range(LANES):
                    sums[i] += -x[i] if words[i] & bit else x[i]
        for j in range(count):
            total[first + j] += lanes[j].sum()


@numba.njit(nogil=True, cache=True)
def _lift_gaussians(
    z: np.ndarray, start: int, D: int, key0: int, key1: int, table: np.ndarray, out: np.ndarray
) -> None:
    words, total = np.empty(LANES, dtype=np.uint32), np.empty(LANES, dtype=z.dtype)
    for row in range(0, out.size, LANES):
        total[:] = 0
        for j in range(z.size):
            _fill(words, j * D + start + row, key0, key1)
            for i in range(LANES):
                total[i] += z[j] * table[words[i] >> np.uint32(16)]
        count = min(LANES, out.size - row)
        out[row : row + count] = total[:count]


@numba.njit(nogil=True, cache=True)
def _pull_gaussians(
    g: np.ndarray, start: int, D: int, key0: int, key1: int, table: np.ndarray, total: np.ndarray
) -> None:
    words, padded = np.empty(LANES, dtype=np.uint32), np.zeros(-(-g.size // LANES) * LANES, dtype=g.dtype)
    padded[: g.size] = g
    sums = np.empty(LANES, dtype=g.dtype)
    for j in range(total.size):
        sums[:] = 0
        for row in range(0, g.size, LANES):
            _fill(words, j * D + start + row, key0, key1)
            for i in range(LANES):
                sums[i] += padded[row + i] * table[words[i] >> np.uint32(16)]
        total[j] += sums.sum()
