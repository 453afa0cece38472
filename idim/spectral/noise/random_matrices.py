r"""Singular values of matrices of independent noise: where they lie, and how far the largest strays.

Let E be m × n with independent entries of mean zero and variances :math:`v_{ij}`.

*Equal variances* v. The squared singular values over :math:`v` fill the Marchenko–Pastur law, between
:math:`(\sqrt m - \sqrt n)^2` and :math:`(\sqrt m + \sqrt n)^2`. The largest strays from
:math:`\mu = (\sqrt{m - 1/2} + \sqrt{n - 1/2})^2` by a Tracy–Widom number of order one times
:math:`s = \sqrt\mu\,(1/\sqrt{m - 1/2} + 1/\sqrt{n - 1/2})^{1/3}`; its upper quantiles are those of a shifted
gamma law to three digits (Chiani).

*Variances of a product*, :math:`v_{ij} = a_i b_j`. With :math:`p, q > 0`, the squared singular value x above the
bulk solves :math:`x q = \sum_j b_j / (1 - b_j p)`, :math:`x p = \sum_i a_i / (1 - a_i q)`, and the right edge is
the least x over p. A profile of no product form that is irregular entry by entry, but not by rows and columns,
has the edge of the product of its row and column sums: only they enter the equations.

*A direction d on top of noise* shows as :math:`\sigma^2 = (d^2 + m v)(d^2 + n v) / d^2` once
:math:`d^2 > v\sqrt{mn}`; :func:`unshrunk` is the inverse.

References: V. Marchenko and L. Pastur, *Distribution of eigenvalues for some sets of random matrices* (1967);
I. Johnstone, *On the distribution of the largest eigenvalue in principal components analysis*, Ann. Stat. 29
(2001); Z. Ma, *Accuracy of the Tracy–Widom limits for the extreme eigenvalues in white Wishart matrices*,
Bernoulli 18 (2012), arXiv:1203.0839; M. Chiani, *Distribution of the largest eigenvalue for real Wishart and
Gaussian random matrices and a simple approximation for the Tracy–Widom distribution*, J. Multivariate Anal. 129
(2014), arXiv:1209.3394; D. Paul and J. Silverstein, *No eigenvalues outside the support of the limiting empirical
spectral distribution of a separable covariance matrix*, J. Multivariate Anal. 100 (2009); F. Benaych-Georges and
R. Nadakuditi, *The singular values and vectors of low rank perturbations of large rectangular random matrices*,
J. Multivariate Anal. 111 (2012), arXiv:1103.2221; M. Gavish and D. Donoho, *The optimal hard threshold for singular
values is 4/√3*, IEEE Trans. Inf. Theory 60 (2014), arXiv:1305.5870.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

Floats = NDArray[np.float64]

# the gamma law with mean, variance and skewness of Tracy–Widom's for real matrices, shifted (Chiani 2014, table 1)
GAMMA_SHAPE, GAMMA_SCALE, GAMMA_SHIFT = 46.446, 0.186054, 9.84801
TRACY_WIDOM_MEAN = GAMMA_SHAPE * GAMMA_SCALE - GAMMA_SHIFT
PROFILE_POINTS = 40  # a variance profile enters the edge by at most as many means
SEARCH_POINTS = 24
BISECTIONS = 26


def tracy_widom_quantile(rate: float) -> float:
    """Return the number that Tracy–Widom's law for real matrices exceeds with probability ``rate``."""
    return float(gammaincinv(GAMMA_SHAPE, 1 - rate)) * GAMMA_SCALE - GAMMA_SHIFT


def asymptotic_edge(m: float, n: float, *, variance: float = 1.0) -> float:
    """Return √v (√m + √n): where the singular values of m × n noise of variance v end in the limit."""
    return math.sqrt(variance) * (math.sqrt(m) + math.sqrt(n))


def edge(m: float, n: float, rate: float, *, variance: float = 1.0) -> float:
    """Return what the largest singular value of m × n independent entries exceeds with probability ``rate``."""
    return asymptotic_edge(m, n, variance=variance) * _stretch(m, n, rate)


def _stretch(m: float, n: float, rate: float) -> float:
    """Return the quantile of the largest singular value over √m + √n."""
    return math.sqrt(_square(m, n, tracy_widom_quantile(rate))) / (math.sqrt(m) + math.sqrt(n))


def quantile_over_mean(m: float, n: float, rate: float) -> float:
    """Return the quantile of the largest singular value over its mean."""
    return math.sqrt(_square(m, n, tracy_widom_quantile(rate)) / _square(m, n, TRACY_WIDOM_MEAN))


def _square(m: float, n: float, number: float) -> float:
    """Return the largest squared singular value that belongs to one of Tracy and Widom's numbers."""
    rows, columns = math.sqrt(max(m - 0.5, 0.5)), math.sqrt(max(n - 0.5, 0.5))
    spread = (rows + columns) * (1 / rows + 1 / columns) ** (1 / 3)
    return float(max((rows + columns) ** 2 + spread * number, 1e-3))


def effective(variances: Floats) -> float:
    """Return how many equal variances these are like: (Σa)² / Σa², at most their number; 0 where all are 0."""
    largest = float(variances.max(initial=0.0))
    if largest == 0:
        return 0.0
    scaled = variances / largest
    return float(scaled.sum() ** 2 / np.square(scaled).sum())


def profile_edge(rows: Floats, columns: Floats, rate: float) -> float:
    """Return the edge at ``rate`` of independent entries, from the sums of their variances by row and by column.

    Args:
        rows: Σ_j v_ij for every row, shape [m]; columns: Σ_i v_ij, shape [n]; both have the same sum.
        rate: probability that the largest singular value is above.
    """
    total = float(rows.sum())
    if not total > 0:
        return 0.0
    m, n = effective(rows), effective(columns)
    stretch = max(_stretch(m, n, rate), 1.0)
    if m > 0.98 * len(rows) and n > 0.98 * len(columns):
        # to second order the edge depends on the variances by their spread, and this is below a per cent
        return math.sqrt(total) * (1 / math.sqrt(m) + 1 / math.sqrt(n)) * _stretch(m, n, rate)
    return math.sqrt(product_edge(rows / total, columns / total) * total) * stretch


def with_outlier(bulk_edge: float, outlier: float, m: int, n: int, variance: float) -> float:
    """Return the edge beside one entry of size ``outlier``, which stands on the noise like a direction of that size."""
    if outlier**2 <= variance * math.sqrt(m * n):
        return bulk_edge
    return max(bulk_edge, math.sqrt((outlier**2 + m * variance) * (outlier**2 + n * variance)) / outlier)


def product_edge(rows: Floats, columns: Floats) -> float:
    """Return the right edge of the squared singular values for variances a_i b_j, asymptotically in m and n."""
    (a, a_weight), (b, b_weight) = _condensed(rows), _condensed(columns)
    p = np.linspace(0.01, 0.999, SEARCH_POINTS) / b.max()
    for _ in range(2):  # the least of a smooth function: its value is right to the square of the last spacing
        x = _outside(p, a, a_weight, b, b_weight)
        best = int(np.argmin(x))
        p = np.linspace(p[max(best - 1, 0)], p[min(best + 1, len(p) - 1)], SEARCH_POINTS)
    return float(x.min())


def _condensed(variances: Floats) -> tuple[Floats, Floats]:
    """Return the means of groups of like variances and the group sizes: the largest alone, then ever more together."""
    ordered = np.sort(variances[variances > 0])[::-1]
    starts = _group_starts(len(ordered))
    sizes = np.diff(starts, append=len(ordered)).astype(np.float64)
    return np.add.reduceat(ordered, starts) / sizes, sizes


@functools.lru_cache(maxsize=256)
def _group_starts(count: int) -> NDArray[np.int64]:
    cuts = np.geomspace(1, count, PROFILE_POINTS).astype(np.int64)
    return np.unique(np.concatenate([[0], cuts[cuts < count]]))


def _outside(p: Floats, a: Floats, a_weight: Floats, b: Floats, b_weight: Floats) -> Floats:
    """Return x(p) of the module docstring: q is found by bisection, because p Σ b/(1-bp) = q Σ a/(1-aq) grows in q."""
    from_columns = (b_weight * b / (1 - b * p[:, None])).sum(1)
    low, high = np.zeros_like(p), np.full_like(p, 1 / a.max())
    for _ in range(BISECTIONS):
        q = (low + high) / 2
        above = q * (a_weight * a / np.maximum(1 - a * q[:, None], 1e-300)).sum(1) > p * from_columns
        low, high = np.where(above, low, q), np.where(above, q, high)
    found: Floats = from_columns / ((low + high) / 2)
    return found


def bulk_above(x: float, m: int, n: int) -> float:
    """Return the fraction of the min(m, n) singular values of standard noise that lie above ``x``."""
    below, fraction = _bulk(round(min(m, n) / max(m, n), 6))
    return float(1 - np.interp(x / math.sqrt(max(m, n)), below, fraction))


@functools.cache
def _bulk(ratio: float) -> tuple[Floats, Floats]:
    """Return the distribution function of Marchenko–Pastur's singular values, over √max(m, n)."""
    low, high = 1 - math.sqrt(ratio), 1 + math.sqrt(ratio)
    angle = np.linspace(0, math.pi, 4001)
    square = (low**2 + high**2) / 2 - (high**2 - low**2) / 2 * np.cos(angle)
    weight = np.sin(angle) ** 2 / np.maximum(square, 1e-12)
    if low == 0:
        weight[0] = weight[1]
    cumulative = np.concatenate([[0.0], np.cumsum((weight[1:] + weight[:-1]) / 2)])
    return np.sqrt(square), cumulative / cumulative[-1]


def median(m: int, n: int) -> float:
    """Return the median singular value of standard m × n noise."""
    values, fraction = _bulk(round(min(m, n) / max(m, n), 6))
    return float(np.interp(0.5, fraction, values)) * math.sqrt(max(m, n))


def hard_threshold(m: int, n: int) -> float:
    """Return Gavish and Donoho's optimal threshold over the median singular value, noise level unknown."""
    ratio = min(m, n) / max(m, n)
    known = math.sqrt(2 * (ratio + 1) + 8 * ratio / (ratio + 1 + math.sqrt(ratio**2 + 14 * ratio + 1)))
    return known * math.sqrt(max(m, n)) / median(m, n)


def unshrunk(values: Floats, m: int, n: int, variance: float) -> Floats:
    """Return the directions d that show as ``values`` on noise of that variance; 0 where noise alone could."""
    centred = np.square(values) - (m + n) * variance
    inside = np.square(centred) - 4 * m * n * variance**2
    seen = (centred > 0) & (inside > 0)
    return np.where(seen, np.sqrt(np.maximum((centred + np.sqrt(np.maximum(inside, 0))) / 2, 0)), 0.0)
