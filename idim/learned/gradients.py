r"""The leading singular directions of the gradients of many batches, or of single rows.

The gradients :math:`g_1 \dots g_n` of the batches' mean losses are the rows of :math:`G`, n × D; its right singular
vectors are the directions in which a step of stochastic descent goes most. Less their mean, :math:`G` is the noise
of those steps.

*Gram.* Where :math:`G` fits into memory: :math:`G G^\top = U \Sigma^2 U^\top` in float64, and the directions are
:math:`G^\top U \Sigma^{-1}`. Exact but for round-off: a square tells a singular value from nothing only above
:math:`\sqrt\epsilon\,\sigma_1`, so what is smaller is left out.

*Sketch.* Else: :math:`Q = \mathrm{orth}(G^\top \Omega)` with :math:`\Omega`, n × (k + p), random, then
:math:`Q \leftarrow \mathrm{orth}(G^\top G Q)` some times over, and the singular directions of :math:`G Q` (N. Halko,
P.-G. Martinsson and J. Tropp, "Finding Structure with Randomness", 2011, arXiv:0909.4061, algorithm 4.4). Gradients
are made anew in every pass; three times k + p vectors of D numbers and one block of gradients are held at most.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from idim.errors import RequestError
from idim.kernels.bits import gaussians, stream_key
from idim.learned.objective import Objective
from idim.learned.sums import inner, norm, orthonormal, turned


@dataclass(frozen=True, kw_only=True, eq=False)
class GradientDirections:
    """Leading right singular directions of n gradients.

    Attributes:
        values: [k], singular values, descending, float64.
        vectors: [D, k], orthonormal columns, in the dtype of the gradients.
        residuals: [k], ‖Gᵀ u - σ v‖ with u = G v / σ, float64: a singular value lies within this of each value.
        total: sum of the squares of all singular values: the squared norms of the gradients.
        n: number of gradients.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    total: float
    n: int

    @property
    def shares(self) -> Tensor:
        """Share of the squared norm of all gradients in each direction, [k]."""
        return self.values**2 / self.total if self.total else torch.zeros_like(self.values)


@dataclass(frozen=True, kw_only=True, eq=False)
class Gradients:
    """The gradients of an objective, a batch each, that can be gone through again and again.

    Args:
        objective: of which, at its theta.
        rows: of a batch; 1 for one gradient a row. A last batch that is shorter counts like the others.
        centred: take the mean of the gradients away.
        block: how many are held at a time.

    Raises:
        RequestError: for a number below 1.
    """

    objective: Objective
    rows: int = 1
    centred: bool = False
    block: int = 32

    def __post_init__(self) -> None:
        if self.rows < 1 or self.block < 1:
            raise RequestError(f"rows and block must be at least 1; received {self.rows} and {self.block}")

    def __len__(self) -> int:
        return sum(1 for _ in self.objective.batches(self.rows))

    def blocks(self) -> Iterator[Tensor]:
        """Yield the gradients in order, [up to ``block``, D] at a time; the memory is used again for the next."""
        mean = self.mean if self.centred else None
        for held in self._blocks():
            yield held if mean is None else held.sub_(mean)

    @functools.cached_property
    def mean(self) -> Tensor:
        """Mean of the gradients, [D]: one pass, the first time."""
        return self.objective.summed(self.objective.gradients(self.rows)) / len(self)

    def _blocks(self) -> Iterator[Tensor]:
        objective = self.objective
        held, count = torch.empty(self.block, objective.D, dtype=objective.dtype, device=objective.device), 0
        for gradient in objective.gradients(self.rows):
            held[count] = gradient
            count += 1
            if count == self.block:
                yield held
                count = 0
        if count:
            yield held[:count]


def gram_directions(gradients: Gradients, *, k: int) -> GradientDirections:
    """Return at most k leading directions by the Gram matrix: one pass, all n × D gradients in memory.

    Raises:
        RequestError: when k is out of range, or a gradient is not finite.
    """
    n = _checked(gradients, k)
    matrix = _finite(torch.cat([block.clone() for block in gradients.blocks()]))
    squares, left = torch.linalg.eigh(inner(matrix.T, matrix.T))
    squares, left = squares.flip(0).clamp(min=0.0), left.flip(1)
    values = squares.sqrt()
    keep = min(k, int((values > _floor(matrix) * values[:1]).sum()))
    values, left = values[:keep], left[:, :keep].to(matrix)
    images = matrix.T @ left
    vectors = orthonormal(images)
    return _directions(values, vectors, images, total=float(squares.sum()), n=n)


def sketched_directions(
    gradients: Gradients, *, k: int, extra: int = 10, rounds: int = 2, seed: int = 0
) -> GradientDirections:
    """Return at most k leading directions by a random sketch: 2 ``rounds`` + 3 passes, each gradient made in each.

    Args:
        gradients: n of them.
        k: number of directions, 1 ≤ k ≤ n.
        extra: p, columns beyond k.
        rounds: of power iteration; each makes what leaks in from directions further down (σ₍ₖ₊ₚ₎ / σₖ)² as large.
        seed: of the random columns.

    Raises:
        RequestError: for a number out of range, or a gradient that is not finite.
    """
    n = _checked(gradients, k)
    if extra < 0 or rounds < 0:
        raise RequestError(f"extra and rounds must be at least 0; received {extra} and {rounds}")
    width = min(k + extra, n, gradients.objective.D)
    coordinates = gaussians(stream_key(seed, "gradients/sketch"), torch.arange(n * width)).view(n, width)
    basis = orthonormal(_spread(gradients, coordinates))
    for _ in range(rounds):
        coordinates, _ = _read(gradients, basis)
        basis = orthonormal(_spread(gradients, coordinates))
    coordinates, total = _read(gradients, basis)
    left, values, right = torch.linalg.svd(coordinates, full_matrices=False)
    keep = min(k, int((values > torch.finfo(basis.dtype).eps * n * values[:1]).sum()))
    images = _spread(gradients, left[:, :keep])
    return _directions(values[:keep], turned(basis, right[:keep].T), images, total=total, n=n)


def _directions(values: Tensor, vectors: Tensor, images: Tensor, *, total: float, n: int) -> GradientDirections:
    """Return the directions with their residuals; ``images`` are those of the left directions, Gᵀ u."""
    apart = images - vectors * values.to(vectors)
    residuals = torch.linalg.vector_norm(apart, dim=0, dtype=torch.float64).cpu()
    return GradientDirections(values=values, vectors=vectors, residuals=residuals, total=total, n=n)


def _spread(gradients: Gradients, coordinates: Tensor) -> Tensor:
    """Return Gᵀ C, [D, columns]."""
    objective, start = gradients.objective, 0
    total = torch.zeros(objective.D, coordinates.shape[1], dtype=objective.dtype, device=objective.device)
    for block in gradients.blocks():
        total.addmm_(block.T, coordinates[start : start + len(block)].to(total))
        start += len(block)
    return total


def _read(gradients: Gradients, basis: Tensor) -> tuple[Tensor, float]:
    """Return G Q, [n, columns] in float64, and the squared norm of G."""
    read, squares = [], 0.0
    for block in gradients.blocks():
        read.append(inner(_finite(block).T, basis))
        squares += norm(block) ** 2
    return torch.cat(read), squares


def _floor(matrix: Tensor) -> float:
    """Return the smallest singular value that a Gram matrix of these gradients can tell, as a share of the largest."""
    n, D = matrix.shape
    return max(math.sqrt(torch.finfo(torch.float64).eps * max(n, D)), torch.finfo(matrix.dtype).eps * math.sqrt(n))


def _finite(block: Tensor) -> Tensor:
    if not bool(torch.isfinite(block).all()):
        raise RequestError("gradients must be finite; received NaN or infinity")
    return block


def _checked(gradients: Gradients, k: int) -> int:
    """Return the number of gradients, when k is in range."""
    n = len(gradients)
    if not 1 <= k <= n:
        raise RequestError(f"k must be between 1 and the {n} gradients there are; received k = {k}")
    return n
