r"""How much of a vector lies in a subspace, and how much would by chance.

For k orthonormal columns V the overlap of a vector is :math:`\lVert V^\top g\rVert^2 / \lVert g\rVert^2`, between 0
and 1, and that of another subspace is the mean over its j directions, :math:`\lVert V^\top U\rVert_F^2 / j`. With V
the top eigenvectors of the Hessian, g the gradient and U the top eigenvectors some steps later, these are the
measures of G. Gur-Ari, D. Roberts and E. Dyer, "Gradient Descent Happens in a Tiny Subspace", 2018, arXiv:1812.04754.

By chance: of a vector in a direction drawn uniformly the overlap is Beta(k / 2, (D - k) / 2), with mean
:math:`k / D` and variance :math:`2 k (D - k) / (D^2 (D + 2))`; of a random subspace the mean is the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from idim.errors import RequestError

CHUNK = 2**18  # rows cast to float64 at a time


@dataclass(frozen=True, kw_only=True)
class Chance:
    """The overlap of a random vector with k of D directions: mean and standard deviation."""

    mean: float
    sd: float


def chance(k: int, D: int) -> Chance:
    """Return the overlap of a random direction with a subspace of k dimensions.

    Raises:
        RequestError: unless 0 ≤ k ≤ D and D ≥ 1.
    """
    if not (D >= 1 and 0 <= k <= D):
        raise RequestError(f"k must be between 0 and D, and D at least 1; received k = {k}, D = {D}")
    return Chance(mean=k / D, sd=math.sqrt(2 * k * (D - k) / (D + 2)) / D)


def overlap(vectors: Tensor, given: Tensor) -> float:
    """Return the share of the squared norm of a vector, or of several, inside a subspace; nan where that is zero.

    Args:
        vectors: [D, k], orthonormal columns.
        given: [D], or [D, j] with orthonormal columns for the overlap of two subspaces.

    Raises:
        RequestError: when they are not of one D.
    """
    columns = given.reshape(len(given), -1)
    if vectors.ndim != 2 or len(vectors) != len(columns):
        raise RequestError(
            f"vectors must have shape [D, k], and what is given D rows; received {list(vectors.shape)} "
            f"and {list(given.shape)}"
        )
    pairs = zip(torch.split(vectors, CHUNK), torch.split(columns, CHUNK), strict=True)
    inner, whole = torch.zeros(vectors.shape[1], columns.shape[1], dtype=torch.float64, device=vectors.device), 0.0
    for some, part in pairs:
        inner.addmm_(some.T.double(), part.to(inner))
        whole += float(part.double().square().sum())
    return float(inner.square().sum()) / whole if whole else math.nan
