r"""One entry a row: native parameters are shared out to d coordinates in equal parts.

With :math:`\pi` a random permutation of the rows and :math:`c(r) = \pi(r) \bmod d`,

.. math::
    P_{r, c(r)} = \sigma_r / \sqrt{n_{c(r)}}, \qquad n_c = |\{r : c(r) = c\}|,

all other entries zero. Parts differ by at most one row, so :math:`P^\top P = I` exactly. Signs
:math:`\sigma_r = \pm 1` are random, as in hashed weight sharing, or all plus.

References:
    W. Chen, J. Wilson, S. Tyree, K. Weinberger, Y. Chen, "Compressing Neural Networks with the Hashing Trick", 2015,
    arXiv:1504.04788 (HashedNets: a random part and a random sign a row).
    K. Li et al., "Uni-LoRA: One Vector is All You Need", 2025, arXiv:2506.00799 (no signs).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numba
import numpy as np
import torch
from torch import Tensor

from idim.errors import RequestError
from idim.kernels.bits import Key, signs, stream_key
from idim.kernels.numba_bits import hash32
from idim.kernels.permutation import Permutation, permutation, permute_range
from idim.projections.chunked import Chunked


@dataclass(frozen=True, kw_only=True)
class Uniform(Chunked):
    """A random balanced partition of the rows, with random signs unless ``signed`` is false."""

    signed: bool = True

    kind: ClassVar[str] = "uniform"

    @classmethod
    def parse(cls, option: str) -> dict[str, object]:
        """Read "uniform:unsigned" (or "uniform:signed", the default)."""
        if option not in ("signed", "unsigned"):
            raise RequestError(f"option of 'uniform' must be 'signed' or 'unsigned'; received {option!r}")
        return {"signed": option == "signed"}

    @property
    def _parts(self) -> Permutation:
        return permutation(self.D, self.seed, "uniform/rows")

    @property
    def _sign_key(self) -> Key:
        return stream_key(self.seed, "uniform/signs")

    @property
    def _weights(self) -> Tensor:
        """The size of the entries of each column, [d], float64, on the CPU: the first D mod d parts have a row more."""
        return (self.D // self.d + (torch.arange(self.d) < self.D % self.d)).double().rsqrt()

    def _entries(self, start: int, stop: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return column and sign of rows [start, stop)."""
        rows = torch.arange(start, stop, device=like.device)
        sign = signs(self._sign_key, rows, like.dtype) if self.signed else torch.ones_like(rows, dtype=like.dtype)
        return self._parts(rows) % self.d, sign

    def _lift_reference(self, z: Tensor, start: int, stop: int) -> Tensor:
        columns, sign = self._entries(start, stop, z)
        return (z * self._weights.to(z.dtype).to(z.device))[columns] * sign

    def _pull_reference(self, g: Tensor, start: int) -> Tensor:
        columns, sign = self._entries(start, start + g.numel(), g)
        return g.new_zeros(self.d).index_add_(0, columns, g * sign) * self._weights.to(g.dtype).to(g.device)

    def _compiled_entries(self, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the columns of rows [start, start + count) and the words that hold their sign bits."""
        parts = self._parts
        columns = np.empty(count, dtype=np.int64)
        permute_range(start, columns, parts.size, parts.left, parts.right, parts.tables.numpy().astype(np.uint32))
        _remainders(columns, self.d)
        if self.signed:
            return columns, _sign_words(start, count, *self._sign_key)
        return columns, np.zeros((count + 31) // 32 + 1, dtype=np.uint32)

    def _lift_compiled(self, z: np.ndarray, start: int, out: np.ndarray) -> None:
        weighted = (z * self._weights.numpy()).astype(z.dtype)
        _gather(weighted, *self._compiled_entries(start, out.size), start & 31, out)

    def _pull_compiled(self, g: np.ndarray, start: int, total: np.ndarray) -> None:
        part = np.zeros(self.d)
        _scatter(g, *self._compiled_entries(start, g.size), start & 31, part)
        total += part * self._weights.numpy()


@numba.njit(nogil=True, cache=True)
def _remainders(x: np.ndarray, d: int) -> None:
    """Replace ``x`` by ``x mod d``; exact: a float64 quotient below 2**52 is off by at most one."""
    inverse = 1.0 / d
    for k in range(x.size):
        c = x[k] - np.int64(x[k] * inverse) * d
        c = c + d if c < 0 else c
        x[k] = c - d if c >= d else c


@numba.njit(nogil=True, cache=True)
def _sign_words(start: int, count: int, key0: int, key1: int) -> np.ndarray:
    """Return the words that hold the sign bits of rows [start, start + count)."""
    first = start >> 5
    words = np.empty(((start + count - 1) >> 5) - first + 1, dtype=np.uint32)
    for w in range(words.size):
        words[w] = hash32(np.uint32(key0), np.uint32(key1), np.uint32(first + w), np.uint32((first + w) >> 32))
    return words


@numba.njit(inline="always")
def _is_minus(words: np.ndarray, bit: np.uint64) -> bool:
    return bool((words[bit >> np.uint64(5)] >> np.uint32(bit & np.uint64(31))) & np.uint32(1))


@numba.njit(nogil=True, cache=True)
def _gather(z: np.ndarray, columns: np.ndarray, words: np.ndarray, offset: int, out: np.ndarray) -> None:
    for k in range(out.size):
        x = z[np.uint64(columns[k])]
        out[k] = -x if _is_minus(words, np.uint64(offset + k)) else x


@numba.njit(nogil=True, cache=True)
def _scatter(g: np.ndarray, columns: np.ndarray, words: np.ndarray, offset: int, total: np.ndarray) -> None:
    for k in range(g.size):
        x = -g[k] if _is_minus(words, np.uint64(offset + k)) else g[k]
        total[np.uint64(columns[k])] += x
