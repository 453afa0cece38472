"""Stored columns times a vector, and their inner products with one: loops that run as fast as memory gives the columns.

The columns of a matrix are the rows of an array ``[columns, rows]``, so the first few of them, and any rows of them,
are read without the rest. Numbers are float32, or the two bytes of bfloat16 (an array of uint16) or of float16 (an
array of int16), widened as they are read. Columns are taken four at a time: what they are added to, or multiplied
with, then passes through the second-level cache once for every four of them.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba.extending import overload

AHEAD = 4  # columns taken together


def widen(word: Any) -> Any:
    """Return the number that a stored word stands for (compiled code only)."""
    raise NotImplementedError


@overload(widen)
def _widen(word: Any) -> Any:
    if word == numba.types.uint16:
        return _bfloat16
    return _float16 if word == numba.types.int16 else _float32


def _float32(word: Any) -> Any:
    return word


def _bfloat16(word: Any) -> Any:
    return np.uint32(np.uint32(word) << np.uint32(16)).view(np.float32)


def _float16(word: Any) -> Any:
    """Return a float16: sign, exponent and fraction in their places of a float32, whose exponent is 112 more."""
    bits = np.uint32(word)
    placed = np.uint32((bits & np.uint32(0x8000)) << np.uint32(16) | (bits & np.uint32(0x7FFF)) << np.uint32(13))
    return placed.view(np.float32) * np.float32(2.0**112)


@numba.njit(nogil=True, cache=True)
def lift(columns: np.ndarray, first: int, z: np.ndarray, out: np.ndarray) -> None:
    """Write rows [first, first + len(out)) of the first len(z) columns times ``z`` into ``out``."""
    out[:] = 0
    whole = z.size // AHEAD * AHEAD
    for j in range(0, whole, AHEAD):
        a, b, c, d = z[j], z[j + 1], z[j + 2], z[j + 3]
        p, q, r, s = columns[j], columns[j + 1], columns[j + 2], columns[j + 3]
        for i in range(out.size):
            k = np.uint64(first + i)
            out[i] += (a * widen(p[k]) + b * widen(q[k])) + (c * widen(r[k]) + d * widen(s[k]))
    for j in range(whole, z.size):
        a, p = z[j], columns[j]
        for i in range(out.size):
            out[i] += a * widen(p[np.uint64(first + i)])


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"})
def pull(columns: np.ndarray, first: int, g: np.ndarray, total: np.ndarray) -> None:
    """Write the inner products of rows [first, first + len(g)) of the first len(total) columns with ``g``."""
    zero = g[0] * 0
    whole = total.size // AHEAD * AHEAD
    for j in range(0, whole, AHEAD):
        a, b, c, d = zero, zero, zero, zero
        p, q, r, s = columns[j], columns[j + 1], columns[j + 2], columns[j + 3]
        for i in range(g.size):
            k, x = np.uint64(first + i), g[i]
            a += widen(p[k]) * x
            b += widen(q[k]) * x
            c += widen(r[k]) * x
            d += widen(s[k]) * x
        total[j], total[j + 1], total[j + 2], total[j + 3] = a, b, c, d
    for j in range(whole, total.size):
        a, p = zero, columns[j]
        for i in range(g.size):
            a += widen(p[np.uint64(first + i)]) * g[i]
        total[j] = a
