r"""What random subspaces of R^n share: the zero line of every comparison.

Let one subspace of dimension i be fixed and another, of dimension j, be uniform on the
Grassmannian, with orthogonal projectors :math:`P` and :math:`Q`. Their overlap is
:math:`t = \operatorname{tr} P Q = \lVert A^\top B\rVert_F^2`.

*Mean.* :math:`\mathbb{E} Q` commutes with every rotation, so it is :math:`(j/n) I` and
:math:`\mathbb{E} t = ij/n`. For the similarity this is :math:`\mathbb{E}\varphi = \max(i, j)/n`.

*Variance.* Rotations act irreducibly on the traceless symmetric matrices, a space of dimension
:math:`(n-1)(n+2)/2`; the traceless part of :math:`P` has squared norm :math:`i(n-i)/n`, that of
:math:`Q` has :math:`j(n-j)/n`, and a uniformly random direction shares their product over the
dimension:

.. math:: \operatorname{Var} t = \frac{2\, i j (n-i)(n-j)}{n^2 (n-1)(n+2)}.

*Band.* For :math:`\min(i, j) = 1` or :math:`\max(i, j) = n - 1` the law of t is a beta law on
:math:`[\max(0, i+j-n), \min(i, j)]`; otherwise the beta law with this support, mean and variance
is used. Of 20,000 simulated pairs its central 95 % held 92 % in R^4 (two planes) and 94.9–95.1 %
from R^16 on.

*Angles.* The squared cosines of the principal angles are the eigenvalues of a matrix-variate beta
law, :math:`W_A (W_A + W_B)^{-1}` with independent Wishart matrices of :math:`j` and :math:`n - j`
degrees of freedom (Muirhead 1982, "Aspects of multivariate statistical theory", section 3.3).
They are drawn from Bartlett factors, so a draw costs :math:`\min(i, j)^3` whatever n is.

*Same coordinates.* Updates that touch few rows, such as the embeddings of the tokens seen, share more
than uniform spaces do without any direction in common. The second zero line keeps which coordinates each
space lies in and makes the signs random: with :math:`S` a diagonal of random signs and the leverages
:math:`a_x = \sum_p A_{xp}^2`, :math:`b_x = \sum_q B_{xq}^2`,
:math:`\mathbb{E}\lVert A^\top S B\rVert_F^2 = \sum_x a_x b_x`, which is :math:`ij/n` when the leverages are even.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from idim.errors import RequestError

LEVEL = 0.95
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Chance:
    """The mean of a number over random subspaces and the central interval that holds 95 % of it."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class ChanceAngles:
    """The angles between random subspaces, by simulation.

    Attributes:
        geodesic, chordal: the distances.
        largest_cosine: the cosine of the smallest angle.
        draws: number of simulated pairs.
    """

    geodesic: Chance
    chordal: Chance
    largest_cosine: Chance
    draws: int


def overlap_variance(n: int, i: int, j: int) -> float:
    """Return the variance of ‖AᵀB‖²_F for random subspaces of dimensions i and j in R^n."""
    return 0.0 if n == 1 else 2.0 * i * j * (n - i) * (n - j) / (n * n * (n - 1) * (n + 2))


def random_similarity(n: int, i: int, j: int) -> Chance:
    """Return φ(i, j) of random subspaces of R^n: its mean, max(i, j)/n, and its 95 % band.

    Raises:
        RequestError: unless 1 <= i, j <= n.

    >>> random_similarity(768, 8, 4).mean == 8 / 768
    True
    """
    _check(n, i, j)
    low, high = max(0, i + j - n), min(i, j)
    mean, variance = i * j / n, overlap_variance(n, i, j)
    if variance == 0.0:
        return Chance(mean=max(i, j) / n, low=max(i, j) / n, high=max(i, j) / n)
    width = high - low
    centre = (mean - low) / width
    strength = centre * (1 - centre) / (variance / width**2) - 1
    band = low + width * stats.beta(centre * strength, (1 - centre) * strength).ppf(_tails())
    return Chance(mean=max(i, j) / n, low=float(band[0]) / high, high=float(band[1]) / high)


@lru_cache(maxsize=1024)  # the matrices of a model have few shapes
def random_angles(n: int, i: int, j: int, *, draws: int = 400, seed: int = 0) -> ChanceAngles:
    """Return the distances and the largest cosine between random subspaces of R^n of dimensions i and j.

    Raises:
        RequestError: unless 1 <= i, j <= n.
    """
    _check(n, i, j)
    cosines = random_cosines(n, i, j, draws=draws, generator=np.random.default_rng((seed, n, i, j)))
    angles = np.arccos(np.clip(cosines, 0.0, 1.0))
    return ChanceAngles(
        geodesic=_summary(np.sqrt((angles**2).sum(1))),
        chordal=_summary(np.sqrt((np.sin(angles) ** 2).sum(1))),
        largest_cosine=_summary(cosines[:, 0]),
        draws=draws,
    )


def random_cosines(n: int, i: int, j: int, *, draws: int, generator: np.random.Generator) -> Floats:
    """Draw the cosines of the principal angles of random subspaces: [draws, min(i, j)], descending."""
    i, j = min(i, j), max(i, j)
    together = max(0, i + j - n)  # directions that must be shared: the rest are the angles of the complements
    if together:
        rest = random_cosines(n, n - j, n - i, draws=draws, generator=generator)
        return np.concatenate([np.ones((draws, together)), rest], axis=1)
    if i == 0:
        return np.empty((draws, 0))
    ours, theirs = _bartlett(i, j, draws, generator), _bartlett(i, n - j, draws, generator)
    whole = np.linalg.cholesky(ours @ ours.swapaxes(1, 2) + theirs @ theirs.swapaxes(1, 2))
    return np.asarray(np.linalg.svd(np.linalg.solve(whole, ours), compute_uv=False))


def same_coordinates(a: Tensor, b: Tensor) -> float:
    """Return φ(i, j) expected of spaces in the same coordinates as these, with random signs.

    Args:
        a: [n, i], orthonormal columns.
        b: [n, j], orthonormal columns.
    """
    leverages = [basis.double().square().sum(1) for basis in (a, b)]
    return float(leverages[0] @ leverages[1]) / min(a.shape[1], b.shape[1])


def random_best_cosine(n: int, count: int) -> float:
    """Return what the best of ``count`` orthonormal directions stays below in 95 % of random directions of R^n.

    One squared cosine follows Beta(1/2, (n - 1)/2); the ``count`` of them are taken as independent.
    """
    if n == 1:
        return 1.0
    return math.sqrt(float(stats.beta(0.5, (n - 1) / 2).ppf(LEVEL ** (1 / count))))


def _bartlett(size: int, df: int, draws: int, generator: np.random.Generator) -> Floats:
    """Draw lower triangular L with L Lᵀ Wishart(size, df): [draws, size, size]."""
    factor = np.tril(generator.standard_normal((draws, size, size)), -1)
    diagonal = np.arange(size)
    factor[:, diagonal, diagonal] = np.sqrt(generator.chisquare(df - diagonal, (draws, size)))
    return factor


def _summary(sample: Floats) -> Chance:
    low, high = np.quantile(sample, _tails())
    return Chance(mean=float(sample.mean()), low=float(low), high=float(high))


def _tails() -> tuple[float, float]:
    return (1 - LEVEL) / 2, (1 + LEVEL) / 2


def _check(n: int, i: int, j: int) -> None:
    if not (1 <= i <= n and 1 <= j <= n):
        raise RequestError(f"subspaces of R^{n} have dimensions from 1 to {n}; received {i} and {j}")
