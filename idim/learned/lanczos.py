r"""The leading eigenpairs of a symmetric matrix that is known by its products alone.

Lanczos: the images of one vector span :math:`V_m = [v_1 \dots v_m]`, orthonormal, with

.. math:: A V_m = V_m T + \beta\, v_{m+1} e_m^\top,

and an eigenpair :math:`T y = \mu y` gives the Ritz pair :math:`(\mu, x = V_m y)` whose residual
:math:`\lVert A x - \mu x\rVert` is :math:`\beta\,|y_m|`. Every new vector is made orthogonal to all earlier
ones, twice, and T is taken from those inner products, so no copies of converged pairs appear.

*Restart.* When m vectors are held, the best Ritz vectors and :math:`v_{m+1}` become the first vectors of a new
basis (K. Wu and H. Simon, "Thick-Restart Lanczos Method for Large Symmetric Eigenvalue Problems", 2000).

*Several equal eigenvalues.* The images of one vector hold one direction of an eigenspace. Once all pairs wanted
have converged, they are kept, a fresh random vector takes the place of :math:`v_{m+1}`, and the basis is filled
again; only when nothing better comes of it is the search over. This costs m - k products more.

*Bounds.* An eigenvalue of A lies within :math:`r_i = \lVert A x_i - \mu_i x_i\rVert` of each :math:`\mu_i`. The
space of all k vectors is within an angle of :math:`\arcsin(\lVert R\rVert_F / \delta)` of an invariant one, where
:math:`\delta` is the distance of the k values from the rest of the spectrum (C. Davis and W. Kahan, "The Rotation
of Eigenvectors by a Perturbation", 1970). Residuals are measured at the end by k products more, not read from T;
:math:`\delta` is read from the Ritz values that were not wanted, so the angle is an estimate.

Memory: m + 1 vectors of D numbers in the dtype of the matrix, what a product takes, and k vectors more at the end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from idim.errors import RequestError, unknown
from idim.kernels.bits import gaussians, stream_key
from idim.learned.sums import inner, norm

Which = Literal["magnitude", "largest", "smallest"]
CHUNK = 2**18  # columns of the basis turned at a time, and random numbers drawn at a time
PASSES = 2  # of orthogonalisation: one leaves round-off where most of a vector is taken away, two do not


class Symmetric(Protocol):
    """A symmetric matrix by its products: D × D, with vectors [D] of one float dtype on one device."""

    D: int
    dtype: torch.dtype
    device: torch.device

    def matvec(self, v: Tensor) -> Tensor:
        """Return A v."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EigenPairs:
    """Eigenvalues and orthonormal eigenvectors, in the order that was asked for.

    Attributes:
        values: [k], float64.
        vectors: [D, k], in the dtype of the matrix.
        residuals: [k], ‖A x - µ x‖, float64: an eigenvalue lies within this of each value.
        gap: distance of the values from the nearest Ritz value that is not among them; infinite where there is none.
        products: how many products were made.
        converged: whether the search ended by itself, and every residual is at most the tolerance.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    gap: float
    products: int
    converged: bool

    @property
    def angle(self) -> float:
        """Estimated bound on the largest angle between the space of all vectors and an invariant one, in radians."""
        error = norm(self.residuals)
        return math.asin(min(1.0, error / self.gap)) if self.gap else (math.pi / 2 if error else 0.0)


def lanczos(
    matrix: Symmetric,
    *,
    k: int,
    which: Which = "magnitude",
    seed: int = 0,
    tolerance: float = 1e-6,
    width: int | None = None,
    products: int = 2000,
) -> EigenPairs:
    """Return k leading eigenpairs of a symmetric matrix.

    Args:
        matrix: D × D, by its products.
        k: number of pairs, 1 ≤ k ≤ D.
        which: largest in magnitude, or at the upper or the lower end; the first is the farthest out.
        seed: of the start vector; the same seed gives the same pairs.
        tolerance: largest residual, as a fraction of the largest value in magnitude.
        width: m, the vectors held; None: 2 k + 20, or D where that is less.
        products: how many may be made, looked at when the basis is full; then the pairs are what they are.

    Raises:
        RequestError: for a number out of range, or a product that is not finite.
    """
    width = _checked(matrix.D, k, which, tolerance, width, products)
    space = _Krylov(matrix, width, seed)
    before: Tensor | None = None
    while True:
        space.fill()
        values, turns, rest = space.ritz(which)
        limit = tolerance * float(values.abs().max())
        done = bool((rest[:k] <= limit).all())
        settled = done and before is not None and bool(((values[:k] - before).abs() <= limit).all())
        if settled or space.whole or space.products >= products:
            break
        before = values[:k] if done else None
        keep = k if done else (k + width) // 2
        space.restart(values[:keep], turns[:, :keep], fresh=done)
    return _pairs(space, values, turns[:, :k], limit if settled or space.whole else -1.0)


class _Krylov:
    """An orthonormal basis that grows by products, and the matrix in it (see the module)."""

    def __init__(self, matrix: Symmetric, width: int, seed: int) -> None:
        self.matrix, self.width, self.seed = matrix, width, seed
        self.rows = torch.empty(width + 1, matrix.D, dtype=matrix.dtype, device=matrix.device)
        self.inside = torch.zeros(width, width, dtype=torch.float64)
        self.size = self.drawn = self.products = 0
        self.rest = self.scale = 0.0
        self._draw()

    @property
    def whole(self) -> bool:
        """Whether the basis spans all vectors."""
        return self.size == self.matrix.D

    def fill(self) -> None:
        """Multiply until ``width`` vectors are held."""
        while self.size < self.width:
            self._grow()

    def ritz(self, which: Which) -> tuple[Tensor, Tensor, Tensor]:
        """Return the Ritz values, best first, their vectors in the basis as columns, and their residuals."""
        values, turns = torch.linalg.eigh(self.inside)
        order = {"magnitude": values.abs(), "largest": values, "smallest": -values}[which].argsort(descending=True)
        return values[order], turns[:, order], (self.rest * turns[-1, order]).abs()

    def turn(self, turns: Tensor) -> None:
        """Replace the first vectors of the basis by combinations of all of them, a few columns at a time."""
        mix = turns.T.to(self.rows)
        for part in torch.split(self.rows, CHUNK, dim=1):
            part[: len(mix)] = mix @ part[: self.size]

    def restart(self, values: Tensor, turns: Tensor, *, fresh: bool) -> None:
        """Keep some Ritz vectors and the vector to be multiplied next; or, afresh, another one in its place."""
        keep = len(values)
        self.turn(turns)
        self.inside.zero_()
        self.inside[range(keep), range(keep)] = values
        if not fresh:
            self.rows[keep] = self.rows[self.size]
        self.size = keep
        if fresh:
            self._draw()

    def multiply(self, v: Tensor) -> Tensor:
        """Return A v.

        Raises:
            RequestError: when it is not finite.
        """
        self.products += 1
        image = self.matrix.matvec(v).to(self.rows, copy=True)  # it may be v itself
        if not bool(torch.isfinite(image).all()):
            raise RequestError(f"products of the matrix must be finite; received NaN or infinity in {self.products}")
        return image

    def _grow(self) -> None:
        here = self.size
        image = self.multiply(self.rows[here])
        self.scale = max(self.scale, norm(image))
        self.size += 1
        column = self._outside(image)
        self.inside[: self.size, here] = self.inside[here, : self.size] = column
        self.rest = norm(image)
        if self.rest > self._round_off():
            torch.div(image, self.rest, out=self.rows[self.size])
        else:  # the basis is invariant: go on elsewhere, in another invariant space
            self.rest = 0.0
            if not self.whole:
                self._draw()

    def _round_off(self) -> float:
        return math.sqrt(self.matrix.D) * torch.finfo(self.matrix.dtype).eps * self.scale

    def _outside(self, vector: Tensor) -> Tensor:
        """Take the part inside the basis away from a vector, in place; return its coordinates, float64."""
        basis, total = self.rows[: self.size], torch.zeros(self.size, dtype=torch.float64)
        for _ in range(PASSES):
            part = inner(basis.T, vector)
            vector.addmv_(basis.T, part.to(vector), alpha=-1)
            total += part
        return total

    def _draw(self) -> None:
        """Put a random unit vector outside the basis behind it, a function of the seed and of how many were drawn."""
        vector, key = self.rows[self.size], stream_key(self.seed, f"lanczos/{self.drawn}")
        for start in range(0, len(vector), CHUNK):
            part = vector[start : start + CHUNK]
            part.copy_(gaussians(key, torch.arange(start, start + len(part), device=part.device)))
        for _ in range(PASSES):
            self._outside(vector)
            vector /= norm(vector)
        self.drawn += 1


def _pairs(space: _Krylov, values: Tensor, turns: Tensor, limit: float) -> EigenPairs:
    """Return the Ritz pairs with their measured residuals."""
    k = turns.shape[1]
    space.turn(turns)
    found = zip(space.rows, values[:k].tolist(), strict=False)
    errors = [norm(space.multiply(x).add_(x, alpha=-value)) for x, value in found]
    residuals = torch.tensor(errors, dtype=torch.float64)
    apart = (values[:k, None] - values[None, k:]).abs()
    return EigenPairs(
        values=values[:k],
        vectors=space.rows[:k].clone().T,
        residuals=residuals,
        gap=float(apart.min()) if apart.numel() else math.inf,
        products=space.products,
        converged=bool((residuals <= limit).all()),
    )


def _checked(D: int, k: int, which: str, tolerance: float, width: int | None, products: int) -> int:
    """Return the number of vectors to hold, when all numbers are in range."""
    if which not in get_args(Which):
        raise unknown("end of the spectrum", which, get_args(Which))
    if not 1 <= k <= D:
        raise RequestError(f"k must be between 1 and D = {D}; received k = {k}")
    if not 0 < tolerance < 1:
        raise RequestError(f"tolerance must be above 0 and below 1; received {tolerance}")
    if products < 1:
        raise RequestError(f"products must be at least 1; received {products}")
    if width is None:
        return min(D, 2 * k + 20)
    if not min(D, k + 2) <= width <= D:
        raise RequestError(f"width must be between k + 2 = {min(D, k + 2)} and D = {D}; received {width}")
    return width
