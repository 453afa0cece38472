"""Compiled kernels of Fastfood blocks: the numbers of :mod:`idim.projections.fastfood`, to round-off.

A block is drawn, used and dropped; it works in a few arrays of n numbers that stay in the cache.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from idim.kernels.numba_bits import hash32

Floats = NDArray[np.floating]
Keys = NDArray[np.uint32]


@numba.njit(inline="always")
def _cross(a: Floats, b: Floats, c: Floats, d: Floats) -> None:
    """Two rounds of butterflies on the entries of four views, adjacent stretches of one array."""
    for j in range(a.size):
        p, q, r, s = a[j] + b[j], a[j] - b[j], c[j] + d[j], c[j] - d[j]
        a[j], b[j], c[j], d[j] = p + r, q + s, p - r, q - s


@numba.njit(nogil=True, cache=True)
def transform(x: Floats) -> None:
    """Replace ``x`` by H x, unnormalised; its length is a power of two, and at least 16."""
    _cross(x[0::4], x[1::4], x[2::4], x[3::4])
    for at in range(0, x.size, 16):
        for j in range(at, at + 4):  # a constant count: four lanes of one vector
            p, q, r, s = x[j] + x[j + 4], x[j] - x[j + 4], x[j + 8] + x[j + 12], x[j + 8] - x[j + 12]
            x[j], x[j + 4], x[j + 8], x[j + 12] = p + r, q + s, p - r, q - s
    h = 16
    while 4 * h <= x.size:
        for at in range(0, x.size, 4 * h):
            y = x[at : at + 4 * h]
            _cross(y[:h], y[h : 2 * h], y[2 * h : 3 * h], y[3 * h :])
        h *= 4
    if h < x.size:
        a, b = x[:h], x[h:]
        for j in range(h):
            a[j], b[j] = a[j] + b[j], a[j] - b[j]


@numba.njit(inline="always")
def _word(key: Keys, index: np.uint64) -> np.uint32:
    return hash32(key[0], key[1], np.uint32(index), np.uint32(index >> np.uint64(32)))


@numba.njit(nogil=True, cache=True)
def _look_up(key: Keys, first: int, normal: Floats, radii: Floats, gauss: Floats, radius: Floats) -> None:
    """Write G, from the upper 16 bits of the stream's numbers, and the radii, from the lower ones."""
    words = np.empty(gauss.size, np.uint32)
    for i in range(words.size):  # apart from the look-ups, so that it is done in vectors
        words[i] = _word(key, np.uint64(first) + np.uint64(i))
    last = np.uint32(radii.size - 1)
    for i in range(words.size):
        gauss[i] = normal[words[i] >> np.uint32(16)]
    for i in range(words.size):
        radius[i] = radii[words[i] & last]


@numba.njit(nogil=True, cache=True)
def _permute(key: Keys, block: int, places: NDArray[np.uint32]) -> None:
    """Write the permutation of the block into ``places``."""
    n = places.size
    last, half = np.uint32(n - 1), np.uint32(0)
    while (1 << (2 * half)) < n:
        half += np.uint32(1)
    first = np.uint64(block * 8)
    a, u = _word(key, first) | np.uint32(1), _word(key, first + np.uint64(1))
    b, v = _word(key, first + np.uint64(2)) | np.uint32(1), _word(key, first + np.uint64(3))
    c, w = _word(key, first + np.uint64(4)) | np.uint32(1), _word(key, first + np.uint64(5))
    for i in range(n):
        x = np.uint32(np.uint32(i) * a + u) & last
        x = np.uint32(x ^ (x >> half))
        x = np.uint32(x * b + v) & last
        x = np.uint32(x ^ (x >> half))
        x = np.uint32(x * c + w) & last
        places[i] = np.uint32(x ^ (x >> half))


@numba.njit(nogil=True, cache=True)
def _flip(key: Keys, block: int, n: int, source: Floats, x: Floats) -> None:
    """Write ``source`` with the signs B of the block into the front of ``x``."""
    first = block * n
    for low in range(0, source.size, 32):
        word = _word(key, np.uint64(first + low) >> np.uint64(5))
        for j in range(low, min(low + 32, source.size)):
            bit = (word >> np.uint32(j - low)) & np.uint32(1)
            x[j] = -source[j] if bit else source[j]


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _square(x: Floats) -> float:
    total = 0.0
    for i in range(x.size):
        total += np.float64(x[i]) * np.float64(x[i])
    return total


@numba.njit(nogil=True, cache=True)
def _draw(
    block: int, keys: Keys, normal: Floats, radii: Floats, places: NDArray[np.uint32], gauss: Floats, radius: Floats
) -> float:
    """Draw Π, G and the radii s of the block; return 1 / the norm of G."""
    _permute(keys[1], block, places)
    _look_up(keys[2], block * gauss.size, normal, radii, gauss, radius)
    return float(1 / np.sqrt(_square(gauss)))


@numba.njit(nogil=True, cache=True)
def lift(z: Floats, start: int, n: int, keys: Keys, normal: Floats, radii: Floats, out: Floats) -> None:
    """Write rows [start, start + len(out)) of √D P z into ``out``; the keys are those of B, Π and G."""
    x, y = np.empty(n, z.dtype), np.empty(n, z.dtype)
    places, gauss, radius = np.empty(n, np.uint32), np.empty(n, np.float32), np.empty(n, np.float32)
    for block in range(start // n, (start + out.size - 1) // n + 1):
        x[z.size :] = 0
        _flip(keys[0], block, n, z, x)
        transform(x)
        scale = z.dtype.type(_draw(block, keys, normal, radii, places, gauss, radius))
        for i in range(n):
            y[i] = gauss[i] * x[places[i]]
        transform(y)
        first = block * n - start
        low, high = max(0, -first), min(n, out.size - first)
        rows = out[first + low : first + high]
        for i in range(low, high):
            rows[i - low] = scale * radius[i] * y[i]


@numba.njit(nogil=True, cache=True)
def pull(g: Floats, start: int, n: int, keys: Keys, normal: Floats, radii: Floats, total: Floats) -> None:
    """Add √D Pᵀ g over rows [start, start + len(g)) to ``total``, float64."""
    x, y, z = np.empty(n, g.dtype), np.empty(n, g.dtype), np.empty(total.size, g.dtype)
    places, gauss, radius = np.empty(n, np.uint32), np.empty(n, np.float32), np.empty(n, np.float32)
    for block in range(start // n, (start + g.size - 1) // n + 1):
        scale = z.dtype.type(_draw(block, keys, normal, radii, places, gauss, radius))
        first = block * n - start
        low, high = max(0, -first), min(n, g.size - first)
        y[:] = 0
        rows = g[first + low : first + high]
        for i in range(low, high):
            y[i] = scale * radius[i] * rows[i - low]
        transform(y)
        for i in range(n):
            x[places[i]] = gauss[i] * y[i]
        transform(x)
        _flip(keys[0], block, n, x[: z.size], z)
        total += z
