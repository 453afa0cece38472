r"""A Kronecker product of two small matrices with orthonormal columns: :math:`P \propto Q_1 \otimes Q_2`.

With :math:`D_1 = \lceil\sqrt D\rceil`, :math:`D_2 = \lceil D / D_1\rceil` and :math:`d_1, d_2` from d alike,
:math:`Q_k \in \mathbb{R}^{D_k \times d_k}` is the orthonormal factor of a Gaussian matrix, and P keeps the
first D rows and the first d columns:

.. math::
    P_{(i,k),(a,c)} = \sqrt{D_1 D_2 / D}\; (Q_1)_{ia} (Q_2)_{kc}.

Columns of a Gaussian matrix change sign, and its rows places, without changing its law; so the columns of
:math:`Q_k` are uncorrelated in every row and share its norm, and :math:`\mathbb{E}[P^\top P] = I` however many
rows are cut. The columns are orthonormal exactly when :math:`D = D_1 D_2`. A product of parameters as a
:math:`D_1 \times D_2` matrix :math:`Q_1 Z Q_2^\top` costs O(D √d). The factors, of :math:`\sqrt{D d}` numbers
each (1.2 MB together for D = 22.7M, d = 1000, float32: the only random kind that keeps so much), are drawn when
first needed and kept for the last few maps.

Reference:
    S. Lotfi, M. Finzi, S. Kapoor, A. Potapczynski, M. Goldblum, A. G. Wilson, "PAC-Bayes Compression Bounds So
    Tight That They Can Explain Generalization", 2022, arXiv:2211.13609.
"""

from __future__ import annotations

import functools
import math
import threading
from dataclasses import dataclass
from typing import ClassVar

import numba
import numpy as np
import torch
from torch import Tensor

from idim.kernels.bits import gaussians, stream_key
from idim.projections.chunked import Chunked

MAKING = threading.Lock()  # threads that work on one map wait for its factors and do not each draw them


@dataclass(frozen=True, kw_only=True)
class Kronecker(Chunked):
    """Q₁ ⊗ Q₂ with random orthonormal factors, cut to D rows and d columns."""

    kind: ClassVar[str] = "kronecker"

    @property
    def _shapes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        (D1, D2), (d1, d2) = _sides(self.D), _sides(self.d)
        return (D1, d1), (D2, d2)

    @property
    def _scale(self) -> float:
        (D1, _), (D2, _) = self._shapes
        return math.sqrt(D1 * D2 / self.D)

    def _factors(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the transposes of Q₁ and Q₂, in the dtype and on the device of ``like``."""
        first, second = self._shapes
        with MAKING:
            return (
                factor(*first, self.seed, "kronecker/first", like.dtype).to(like.device),
                factor(*second, self.seed, "kronecker/second", like.dtype).to(like.device),
            )

    def _square(self, z: Tensor) -> Tensor:
        """Return z, scaled, as the matrix Z, [d1, d2], with zeros for the columns that are cut."""
        (_, d1), (_, d2) = self._shapes
        return torch.nn.functional.pad(z * self._scale, (0, d1 * d2 - self.d)).view(d1, d2)

    def _lift_reference(self, z: Tensor, start: int, stop: int) -> Tensor:
        first, second = self._factors(z)
        width = second.shape[1]
        top = start // width
        part = first[:, top : (stop - 1) // width + 1].T @ self._square(z) @ second
        return part.flatten()[start - top * width : stop - top * width]

    def _pull_reference(self, g: Tensor, start: int) -> Tensor:
        first, second = self._factors(g)
        width, stop = second.shape[1], start + g.numel()
        top, bottom = start // width, (stop - 1) // width + 1
        part = torch.nn.functional.pad(g, (start - top * width, bottom * width - stop)).view(-1, width)
        return (first[:, top:bottom] @ (part @ second.T)).flatten()[: self.d] * self._scale

    def _lift_compiled(self, z: np.ndarray, start: int, out: np.ndarray) -> None:
        square = self._square(torch.from_numpy(z))
        first, second = self._factors(square)
        _lift(first.numpy(), square.numpy(), second.numpy(), start, out)

    def _pull_compiled(self, g: np.ndarray, start: int, total: np.ndarray) -> None:
        first, second = self._factors(torch.from_numpy(g))
        square = np.zeros((first.shape[0], second.shape[0]))
        _pull(first.numpy(), second.numpy(), start, g, square)
        total += square.ravel()[: self.d] * self._scale


def _sides(size: int) -> tuple[int, int]:
    """Return the sides of the smallest nearly square matrix with at least ``size`` entries."""
    side = math.isqrt(size - 1) + 1
    return side, -(-size // side)


@functools.lru_cache(maxsize=8)
def factor(rows: int, columns: int, seed: int, stream: str, dtype: torch.dtype) -> Tensor:
    """Return the transpose of a random matrix with orthonormal columns: [columns, rows], on the CPU.

    It is the Q of a Gaussian matrix, computed in float64 with a positive diagonal of R, so that its law is uniform.
    """
    key, vectors = stream_key(seed, stream), torch.empty(columns, rows, dtype=torch.float64)
    for j in range(columns):
        vectors[j] = gaussians(key, torch.arange(j * rows, (j + 1) * rows))
    _orthonormalise(vectors.numpy())
    return vectors.to(dtype)


@numba.njit(nogil=True, cache=True)
def _orthonormalise(vectors: np.ndarray) -> None:
    """Gram-Schmidt, twice for each vector, which makes it orthogonal to round-off.

    A plain loop and not LAPACK, whose last bits depend on its threads and version, and so would P.
    """
    for j in range(vectors.shape[0]):
        x = vectors[j]
        for _ in range(2):
            for i in range(j):
                y, inner = vectors[i], 0.0
                for k in range(x.size):
                    inner += x[k] * y[k]
                for k in range(x.size):
                    x[k] -= inner * y[k]
        square = 0.0
        for k in range(x.size):
            square += x[k] * x[k]
        x /= np.sqrt(square)


@numba.njit(nogil=True, cache=True)
def _lift(first: np.ndarray, square: np.ndarray, second: np.ndarray, start: int, out: np.ndarray) -> None:
    """Write entries [start, start + len(out)) of firstᵀ · square · second, row after row."""
    width = second.shape[1]
    line, weights = np.empty(width, dtype=out.dtype), np.empty(square.shape[1], dtype=out.dtype)
    for row in range(start // width, (start + out.size - 1) // width + 1):
        weights[:] = 0
        for a in range(square.shape[0]):
            for c in range(square.shape[1]):
                weights[c] += first[a, row] * square[a, c]
        line[:] = 0
        for c in range(square.shape[1]):
            for k in range(width):
                line[k] += weights[c] * second[c, k]
        low, high = max(start, row * width), min(start + out.size, (row + 1) * width)
        out[low - start : high - start] = line[low - row * width : high - row * width]


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _dot(x: np.ndarray, y: np.ndarray) -> float:
    total = x.dtype.type(0)
    for k in range(x.size):
        total += x[k] * y[k]
    return float(total)


@numba.njit(nogil=True, cache=True)
def _pull(first: np.ndarray, second: np.ndarray, start: int, g: np.ndarray, square: np.ndarray) -> None:
    """Add first · G · secondᵀ to ``square``, float64, for the entries [start, start + len(g)) of G."""
    width, weights = second.shape[1], np.empty(second.shape[0])
    for row in range(start // width, (start + g.size - 1) // width + 1):
        low, high = max(start, row * width), min(start + g.size, (row + 1) * width)
        line = g[low - start : high - start]
        for c in range(square.shape[1]):
            weights[c] = _dot(line, second[c, low - row * width : high - row * width])
        for a in range(square.shape[0]):
            for c in range(square.shape[1]):
                square[a, c] += first[a, row] * weights[c]
