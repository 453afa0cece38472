"""A training, looked at moment by moment through the top directions of its curvature.

The questions are those of G. Gur-Ari, D. Roberts and E. Dyer, "Gradient Descent Happens in a Tiny Subspace", 2018,
arXiv:1812.04754; the measures are in :mod:`idim.learned.overlap`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from idim.learned.curvature import Curvature
from idim.learned.lanczos import EigenPairs, lanczos
from idim.learned.overlap import Chance, chance, overlap


@dataclass(frozen=True, kw_only=True, eq=False)
class Moment:
    """A network at one time of its training, and its top directions of curvature.

    Attributes:
        step: optimizer steps done.
        loss: mean loss over the rows.
        pairs: the top eigenpairs.
        theta: [D], the parameters.
        gradient: overlap of the gradient of all rows with the top directions.
        chance: overlap of a random direction.
    """

    step: int
    loss: float
    pairs: EigenPairs
    theta: Tensor
    gradient: float
    chance: Chance

    def moved(self, later: Moment) -> float:
        """Return the overlap of the way to a later moment with the top directions of this one."""
        return overlap(self.pairs.vectors, later.theta - self.theta)

    def kept(self, later: Moment) -> float:
        """Return the overlap of the top directions of a later moment with those of this one."""
        return overlap(self.pairs.vectors, later.pairs.vectors)


def moment(step: int, curvature: Curvature, *, k: int, tolerance: float = 1e-4, seed: int = 0) -> Moment:
    """Look at an objective: loss, gradient, and the k eigenpairs of its curvature that are largest in magnitude.

    Args:
        step: optimizer steps done.
        curvature: the Hessian or Gauss–Newton matrix of the objective.
        k, tolerance, seed: as for :func:`idim.learned.lanczos.lanczos`.

    Raises:
        RequestError: when k is out of range, or a number is not finite.
    """
    objective = curvature.objective
    pairs = lanczos(curvature, k=k, tolerance=tolerance, seed=seed)
    return Moment(
        step=step,
        loss=objective.value(),
        pairs=pairs,
        theta=objective.theta(),
        gradient=overlap(pairs.vectors, objective.gradient()),
        chance=chance(k, objective.D),
    )
