r"""Intruder dimensions: leading directions of the tuned weights that the base weights do not have.

Definition (Shuttleworth, Andreas, Torralba & Sharma 2024, "LoRA vs full fine-tuning: an illusion
of equivalence", arXiv:2410.21228): among the ``top`` leading singular vectors of the tuned matrix,
those whose best absolute cosine with any singular vector of the base matrix is below ``threshold``;
the paper takes the left vectors, 10 of them, and 0.5. Here the right vectors are counted too: an update
that writes into known output directions from new input directions shows only there.

Two readings to avoid. In R^n some base vector has a cosine of at least :math:`1/\sqrt n` with
anything when the base has n of them, so a side of 4 or less has no intruder at 0.5. And a random
direction is an intruder in any large matrix: ``chance`` gives the best cosine that 95 % of random
directions stay below, far under 0.5, so vectors between the two share more than chance with the base.
Base directions lost in round-off (a base matrix of deficient rank) are not counted as directions.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from idim.errors import RequestError
from idim.spectral.comparison.chance import random_best_cosine
from idim.spectral.decomposition.directions import BaseDirections, Directions

TOP, THRESHOLD = 10, 0.5


@dataclass(frozen=True, kw_only=True)
class IntruderSide:
    """The intruders among the left, or the right, vectors.

    Attributes:
        count: number of intruders.
        best_cosines: for each leading tuned vector, its best absolute cosine with any base vector.
        chance: the best cosine that 95 % of random directions stay below.
    """

    count: int
    best_cosines: tuple[float, ...]
    chance: float


@dataclass(frozen=True, kw_only=True)
class Intruders:
    """The intruder dimensions of one tuned matrix.

    Attributes:
        top: number of leading tuned directions looked at; fewer where the tuned matrix has fewer.
        threshold: best cosine below which a direction is an intruder.
        left, right: the two sides.
    """

    top: int
    threshold: float
    left: IntruderSide
    right: IntruderSide


def intruders(base: BaseDirections, tuned: Directions, *, threshold: float = THRESHOLD) -> Intruders:
    """Count the directions of ``tuned`` that no direction of ``base`` comes near.

    Raises:
        RequestError: for a threshold outside (0, 1], or matrices of different shapes.
    """
    check_threshold(threshold)
    shape = (tuned.left.shape[0], tuned.right.shape[0])
    if shape != tuple(base.matrix.shape):
        raise RequestError(f"base and tuned must have one shape; received {tuple(base.matrix.shape)} and {shape}")
    left, right = base.cosines(tuned)
    return Intruders(
        top=tuned.rank,
        threshold=threshold,
        left=_side(left, shape[0], threshold),
        right=_side(right, shape[1], threshold),
    )


def check_threshold(threshold: float) -> None:
    """Raise unless the threshold can be a cosine."""
    if not 0 < threshold <= 1:
        raise RequestError(f"the intruder threshold must be in (0, 1]; received {threshold}")


def _side(cosines: Tensor, n: int, threshold: float) -> IntruderSide:
    """Summarise |cosine| of every base vector (rows) with every tuned vector (columns)."""
    known = cosines.shape[0]
    best = cosines.max(dim=0).values if known else cosines.new_zeros(cosines.shape[1])
    return IntruderSide(
        count=int((best < threshold).sum()),
        best_cosines=tuple(best.tolist()),
        chance=random_best_cosine(n, known) if known else 0.0,
    )
