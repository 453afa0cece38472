r"""The leading singular directions of an update, and all of them of a weight matrix.

*Leading k.* The eigenvectors of the smaller Gram matrix, in float64, span the leading right (or
left) directions; one Rayleigh–Ritz step, :math:`Q = \mathrm{qr}(A V)` and the svd of the small
:math:`Q^\top A`, makes both sides orthonormal to round-off and the values those of the best
approximation inside that span. The two factors of an adapter go through their QR decompositions,
and no m × n matrix is formed.

*What counts as a direction.* A Gram matrix in float64 tells a singular value from round-off down
to :math:`\sqrt{\epsilon \max(m, n)}\,\sigma_1`, about :math:`4 \cdot 10^{-7} \sigma_1` for a
side of 768; the rounding of float32 weights lies there too. Directions below are left out: their vectors
would be arbitrary. An update of rank r therefore has at most r directions, a zero one none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray
from torch import Tensor

from idim.errors import RequestError
from idim.spectral.decomposition.scan import add_gram, upright
from idim.spectral.pairing.delta import Factors

Floats = NDArray[np.float64]
BLOCK = 2**22  # entries cast to float64 at a time


@dataclass(frozen=True, kw_only=True, eq=False)
class Directions:
    """Singular directions in descending order, float64.

    Attributes:
        left: [m, r], orthonormal columns.
        values: [r], the singular values.
        right: [n, r], orthonormal columns.
        norm: Frobenius norm of the whole matrix.
    """

    left: Tensor
    values: Tensor
    right: Tensor
    norm: float

    @property
    def rank(self) -> int:
        """Number of directions."""
        return self.values.numel()

    def first(self, k: int) -> Directions:
        """Return the leading ``min(k, rank)`` directions."""
        return Directions(left=self.left[:, :k], values=self.values[:k], right=self.right[:, :k], norm=self.norm)


@dataclass(frozen=True, kw_only=True, eq=False)
class BaseDirections:
    """All singular directions of a weight matrix on its smaller side; those of the larger side are never stored.

    Attributes:
        matrix: [m, n], the weights as stored.
        values: [r], descending.
        small: [min(m, n), r]: the right directions when m >= n, else the left ones.
        norm: Frobenius norm.
    """

    matrix: Tensor
    values: Tensor
    small: Tensor
    norm: float

    @property
    def tall(self) -> bool:
        """Whether m >= n, so that ``small`` holds the right directions."""
        return self.matrix.shape[0] >= self.matrix.shape[1]

    def first(self, k: int) -> Directions:
        """Return the leading ``min(k, r)`` directions of both sides."""
        return _ritz(self.matrix, self.small[:, :k], norm=self.norm)

    def cosines(self, directions: Directions) -> tuple[Tensor, Tensor]:
        """Return |cosine| between every direction of this matrix and every given one: left [r, k], right [r, k].

        A direction of the larger side is the image of one of the smaller, A v / σ, so its cosine
        with u is ⟨v, Aᵀ u⟩ / σ.
        """
        given, image = (directions.right, directions.left) if self.tall else (directions.left, directions.right)
        near = (self.small.T @ given).abs()
        across = self.small.T @ times(self.matrix, image, transpose=self.tall)
        far = (across / self.values[:, None]).abs()
        return (far.clamp(max=1.0), near.clamp(max=1.0)) if self.tall else (near.clamp(max=1.0), far.clamp(max=1.0))


def of_matrix(matrix: Tensor, k: int, *, name: str = "the matrix") -> Directions:
    """Return at most k leading directions of a matrix [m, n].

    Raises:
        RequestError: when an entry is not finite.
    """
    gram = _gram(matrix, name)
    side = gram.shape[0]
    wanted = (max(0, side - k), side - 1)
    squares, found = scipy.linalg.eigh(gram, lower=True, subset_by_index=wanted, driver="evr", check_finite=False)
    vectors, _ = _descending(torch.from_numpy(squares), torch.from_numpy(found), max(matrix.shape))
    return _ritz(matrix, vectors, norm=_norm(gram))


def of_base(matrix: Tensor, *, name: str = "the matrix") -> BaseDirections:
    """Return all directions of a weight matrix [m, n].

    Raises:
        RequestError: when an entry is not finite.
    """
    gram = _gram(matrix, name)
    squares, vectors = torch.linalg.eigh(torch.from_numpy(gram), UPLO="L")
    vectors, values = _descending(squares, vectors, max(matrix.shape))
    return BaseDirections(matrix=matrix, values=values, small=vectors, norm=_norm(gram))


def of_factors(factors: Factors, k: int, *, name: str = "the update") -> Directions:
    """Return at most k leading directions of scale · up · down.

    Raises:
        RequestError: when an entry is not finite.
    """
    left, inner = torch.linalg.qr(factors.up.double())
    right, outer = torch.linalg.qr(factors.down.double().T)
    core = factors.scale * (inner @ outer.T)
    if not bool(torch.isfinite(core).all()):
        raise _not_finite(name)
    u, values, vt = torch.linalg.svd(core, full_matrices=False)
    keep = min(k, _resolved(values, max(len(left), len(right))))
    norm = float(torch.linalg.vector_norm(values))
    return Directions(left=left @ u[:, :keep], values=values[:keep], right=right @ vt[:keep].T, norm=norm)


def times(matrix: Tensor, vectors: Tensor, *, transpose: bool = False) -> Tensor:
    """Return A X, or Aᵀ X, in float64, casting a few rows of A at a time."""
    blocks = row_blocks(matrix)
    if not transpose:
        return torch.cat([block.double() @ vectors for block in blocks])
    total = vectors.new_zeros(matrix.shape[1], vectors.shape[1])
    start = 0
    for block in blocks:
        total.addmm_(block.double().T, vectors[start : start + len(block)])
        start += len(block)
    return total


def _descending(squares: Tensor, vectors: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Return the resolved vectors and singular values, largest first, of ascending eigenvalues."""
    values = squares.flip(0).clamp(min=0.0).sqrt()
    keep = _resolved(values, side)
    return vectors.flip(1)[:, :keep], values[:keep]


def _norm(gram: Floats) -> float:
    return math.sqrt(max(float(np.trace(gram)), 0.0))


def _gram(matrix: Tensor, name: str) -> Floats:
    """Return the lower triangle of AᵀA when m >= n, else of AAᵀ, in float64."""
    tall = upright(matrix.detach())
    gram = np.zeros((tall.shape[1], tall.shape[1]), order="F")
    for block in row_blocks(tall):
        add_gram(gram, block.double().numpy())
    if not np.isfinite(gram).all():
        raise _not_finite(name)
    return gram


def _ritz(matrix: Tensor, vectors: Tensor, *, norm: float) -> Directions:
    """Return the singular directions of A inside the span of ``vectors``, on the smaller side of A."""
    wide = matrix.shape[0] < matrix.shape[1]
    basis, small = torch.linalg.qr(times(matrix, vectors, transpose=wide))
    inner, values, outer = torch.linalg.svd(small, full_matrices=False)
    far, near = basis @ inner, vectors @ outer.T
    left, right = (near, far) if wide else (far, near)
    return Directions(left=left, values=values, right=right, norm=norm)


def row_blocks(matrix: Tensor) -> tuple[Tensor, ...]:
    """Return views of consecutive rows, each small enough to be cast to float64."""
    return torch.split(matrix, max(1, BLOCK // max(1, matrix.shape[1])))


def _resolved(values: Tensor, side: int) -> int:
    """Return how many descending singular values stand above round-off."""
    floor = math.sqrt(torch.finfo(torch.float64).eps * side)
    return int((values > floor * values[:1]).sum())


def _not_finite(name: str) -> RequestError:
    return RequestError(f"weights must be finite; received NaN or infinity in {name}")
