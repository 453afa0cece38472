r"""Principal angles between two subspaces of R^n, and the distances made of them.

For orthonormal bases :math:`A` [n, i] and :math:`B` [n, j] the cosines of the :math:`\min(i, j)`
principal angles :math:`\theta_1 \le \theta_2 \le \dots` are the singular values of
:math:`A^\top B` (Björck & Golub 1973, "Numerical methods for computing angles between linear
subspaces"). A cosine near one says nothing about a small angle, so angles below 45 degrees are
read from the sines, the singular values of :math:`B - A A^\top B`, as that paper advises.

The geodesic distance on the Grassmannian is :math:`\lVert\theta\rVert_2`, the chordal distance
:math:`\lVert\sin\theta\rVert_2 = \lVert A A^\top - B B^\top\rVert_F / \sqrt 2`. For
:math:`i \ne j` the same sums over the :math:`\min(i, j)` angles are the distance from the smaller
space to the nearest subspace of its dimension inside the larger one, so they vanish when one
space contains the other (Ye & Lim 2016, "Schubert varieties and distances between subspaces of
different dimensions", arXiv:1407.0900).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from idim.errors import RequestError


def principal_angles(a: Tensor, b: Tensor) -> Tensor:
    """Return the min(i, j) principal angles in radians, ascending, as float64.

    Args:
        a: [n, i], orthonormal columns.
        b: [n, j], orthonormal columns.

    Raises:
        RequestError: when the two do not live in the same R^n.
    """
    check_same_space(a, b)
    a, b = a.double(), b.double()
    if a.shape[1] < b.shape[1]:
        a, b = b, a
    cross = a.T @ b
    cosines = torch.linalg.svdvals(cross).clamp(max=1.0)
    sines = torch.linalg.svdvals(b - a @ cross).flip(0).clamp(max=1.0)
    return torch.where(cosines**2 < 0.5, cosines.acos(), sines.asin())


def geodesic(angles: Tensor) -> float:
    """Return the geodesic distance in radians: the root of the sum of squared angles."""
    return float(torch.linalg.vector_norm(angles))


def chordal(angles: Tensor) -> float:
    """Return the chordal distance: the root of the sum of squared sines."""
    return math.sqrt(float((angles.sin() ** 2).sum()))


def check_same_space(a: Tensor, b: Tensor) -> None:
    """Raise unless both are matrices whose columns have one length."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[0]:
        received = f"{list(a.shape)} and {list(b.shape)}"
        raise RequestError(f"two bases must be matrices with columns of one length; received shapes {received}")
