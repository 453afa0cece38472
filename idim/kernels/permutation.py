r"""A seeded permutation of {0, …, n - 1} that is evaluated where it is needed, never stored.

With :math:`a = \lceil\sqrt n\rceil` and :math:`b = \lceil n / a\rceil`, write
:math:`x = b\,l + r` with :math:`0 \le l < a`, :math:`0 \le r < b`. Four Feistel rounds

.. math::
    l \leftarrow l + f_0(r) \bmod a,\quad r \leftarrow r + f_1(l) \bmod b,\quad
    l \leftarrow l + f_2(r) \bmod a,\quad r \leftarrow r + f_3(l) \bmod b

permute {0, …, ab - 1} for any functions :math:`f_t` (Luby & Rackoff, "How to construct pseudorandom
permutations from pseudorandom functions", 1988; sums modulo a and b as in Black & Rogaway, "Ciphers
with arbitrary finite domains", 2002). A value of n or more is permuted again until it is below n
("cycle walking"), which happens to at most a share 1/√n of the values. The :math:`f_t` are tables of
random numbers of :math:`\sqrt n` entries: 19 KB each at n = 22.7 million. The images of a few numbers are as those
of a uniform permutation once n is some tens; below, some orders are likelier than others.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numba
import numpy as np
import torch
from torch import Tensor

from idim.kernels.bits import hash32, stream_key


@dataclass(frozen=True)
class Permutation:
    """A permutation of ``size`` numbers; ``tables`` is [f0, f1, f2, f3], int64, one after another."""

    size: int
    left: int
    right: int
    tables: Tensor

    def __call__(self, index: Tensor) -> Tensor:
        """Return where ``index`` goes (int64, any shape and device, values in [0, size))."""
        f0, f1, f2, f3 = torch.split(self.tables.to(index.device), [self.right, self.left] * 2)
        while True:
            left, right = index // self.right, index % self.right
            for into_left, into_right in ((f0, f1), (f2, f3)):
                left = (left + into_left[right]) % self.left
                right = (right + into_right[left]) % self.right
            image = left * self.right + right
            if bool((image < self.size).all()):
                return image
            index = torch.where(image < self.size, index, image)


@functools.lru_cache(maxsize=8)
def permutation(size: int, seed: int, stream: str) -> Permutation:
    """Return the permutation of {0, …, size - 1} that (seed, stream) names."""
    left = math.isqrt(size - 1) + 1
    right = -(-size // left)
    bounds = [(left, right), (right, left)] * 2
    rounds = [_below(bound, count, seed, f"{stream}/{t}") for t, (bound, count) in enumerate(bounds)]
    return Permutation(size, left, right, torch.cat(rounds))


def _below(bound: int, count: int, seed: int, stream: str) -> Tensor:
    return hash32(stream_key(seed, stream), torch.arange(count)) * bound >> 32


@numba.njit(nogil=True, cache=True)
def permute_range(start: int, images: np.ndarray, size: int, left: int, right: int, tables: np.ndarray) -> None:
    """Write where start, start + 1, … go into ``images`` (int64), as :class:`Permutation` does.

    ``tables`` are uint32 here: unsigned indices spare the checks that stop vectorisation.
    """
    k = 0
    while k < images.size:
        high, low = (start + k) // right, (start + k) % right
        run = min(right - low, images.size - k)
        _permute_run(high, low, images[k : k + run], np.uint32(left), np.uint32(right), tables)
        k += run
    for k in range(images.size):
        while images[k] >= size:
            image = images[k]
            _permute_run(image // right, image % right, images[k : k + 1], np.uint32(left), np.uint32(right), tables)


@numba.njit(inline="always")
def _wrap(x: np.uint32, bound: np.uint32) -> np.uint32:
    """Return x mod bound for x < 2 bound, without a branch: below ``bound`` the difference wraps around."""
    return min(x, np.uint32(x - bound))


@numba.njit(nogil=True, cache=True)
def _permute_run(
    first_high: int, first_low: int, images: np.ndarray, left: np.uint32, right: np.uint32, tables: np.ndarray
) -> None:
    """Permute first_high · right + first_low + k, for consecutive k that share ``first_high``."""
    f0, f1 = tables[first_low:right], tables[right : right + left]
    f2, f3 = tables[right + left : 2 * right + left], tables[2 * right + left :]
    for k in range(images.size):
        high = _wrap(np.uint32(np.uint32(first_high) + f0[k]), left)
        low = _wrap(np.uint32(np.uint32(first_low + k) + f1[high]), right)
        high = _wrap(np.uint32(high + f2[low]), left)
        low = _wrap(np.uint32(low + f3[high]), right)
        images[k] = np.int64(high) * np.int64(right) + np.int64(low)
