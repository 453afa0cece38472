r"""A hierarchical smoothing spline: how sure one can be that the expected score at d reaches the bar.

The score of a run at dimension :math:`d` with seed :math:`s` is, with :math:`x = \ln d`,

.. math::
    y_{ds} = a + b x + g(x) + u_s + e_{ds},\qquad
    u_s \sim N(0, \rho\sigma^2),\; e_{ds} \sim N(0, \sigma^2),\; g \sim N(0, \lambda\sigma^2 k).

A seed is a whole replicate (initialisation, P and data order together), so its effect :math:`u_s`
is shared by all of its runs: runs of one seed are not independent evidence. The deviation
:math:`g` from a straight line is an integrated Wiener process, whose posterior mean is the cubic
smoothing spline (Wahba 1978), or a Wiener process, whose posterior mean is piecewise linear and
whose posterior spread stays honest where the curve has kinks or steps.

With flat priors on :math:`a, b` and :math:`1/\sigma^2` on the variance, the posterior of
:math:`f(x) = a + b x + g(x)` for given :math:`(k, \lambda, \rho)` is Student's t with
:math:`N - 2` degrees of freedom. The three are not known, and with three seeds hardly learnable, so
they are averaged over a small grid with their restricted likelihood as weight. This is what a
bootstrap over whole seeds aims at; with three to six seeds the bootstrap itself is far too
narrow, because n resampled seeds show (n - 1)/n of the variance and a normal tail in place of
the t tail.

References: G. Wahba, *Improper priors, spline smoothing and the problem of guarding against model
errors in regression*, JRSS B 40 (1978); D. Nychka, *Bayesian confidence intervals for smoothing
splines*, JASA 83 (1988); D. Harville, *Maximum likelihood approaches to variance component
estimation*, JASA 72 (1977).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from idim.errors import RequestError

Floats = NDArray[np.float64]

# Ratio of the variance between seeds to the variance within one. Networks show 0.1 to 2; a P whose
# columns do not change with d, and a fixed data order, can make runs of one seed nearly alike.
SEED_RATIOS = (0.0, 0.2, 0.7, 2.5, 10.0, 40.0, 160.0)
# Deviation from a straight line over the window, as a fraction of the rise over the window.
SMOOTH_SIZES = (0.15, 0.5, 1.5)
ROUGH_SIZES = (0.1, 0.3, 1.0)
NEGLIGIBLE = 1e-3  # posterior weight below which a grid point is not predicted from


@dataclass(frozen=True, kw_only=True)
class Level:
    """A score known up to an error: mean, standard error and the error's degrees of freedom.

    Raises:
        RequestError: when the mean is not finite, the error negative or the freedom not positive.
    """

    mean: float
    error: float = 0.0
    df: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and 0 <= self.error < math.inf and self.df > 0):
            raise RequestError(
                "the threshold must be finite, its error at least 0 and its degrees of freedom above 0; "
                f"received {self.mean}, {self.error}, {self.df}"
            )


@dataclass(frozen=True)
class Posterior:
    """A mixture of t laws for f at M places: weights [H], means [H, M], variances [H, M], degrees of freedom."""

    weight: Floats
    means: Floats
    variances: Floats
    df: int

    @property
    def mean(self) -> Floats:
        """Posterior mean of f, shape [M]."""
        return self.weight @ self.means

    def reaches(self, level: Level) -> Floats:
        """Return the probability that f is at least ``level``, shape [M]."""
        return self.weight @ t_probability(self.means - level.mean, self.variances, self.df, level)


def t_probability(gap: Floats, variance: Floats, df: float, level: Level) -> Floats:
    """Return P(gap + error >= 0) for a t error of this variance and the error of ``level``.

    The sum of two t errors is taken as one t error with Welch's degrees of freedom.
    """
    total = variance + level.error**2
    with np.errstate(divide="ignore", invalid="ignore"):
        welch = total**2 / (variance**2 / df + level.error**4 / level.df)
        ratio = gap / np.sqrt(total)
    certain = (gap >= 0).astype(float)
    return np.where(total > 0, stdtr(np.where(total > 0, welch, 1.0), np.nan_to_num(ratio)), certain)


def posterior(x: Floats, seeds: NDArray[np.int64], y: Floats, at: Floats, *, rise: float, noise: float) -> Posterior:
    """Return the posterior of f at ``at`` [M] from runs (x, seeds, y), each [N] with N >= 3.

    Args:
        rise: how far the curve climbs over the window; sizes the prior of g.
        noise: a first guess of the standard deviation within a seed, positive.
    """
    origin, length = x.min(), np.ptp(x)
    u, v = (x - origin) / length, (at - origin) / length
    kernels, cross, own = _grid(u, v, (rise / noise) ** 2)
    same_seed = (seeds[:, None] == seeds[None, :]).astype(float)
    ratios = np.array(SEED_RATIOS)[:, None, None, None]
    covariance = (np.eye(len(y)) + ratios * same_seed + kernels).reshape(-1, len(y), len(y))
    index = np.tile(np.arange(len(kernels)), len(SEED_RATIOS))
    design, wanted = np.stack([np.ones_like(u), u], 1), np.stack([np.ones_like(v), v], 1)

    inverse = np.linalg.inv(covariance)
    white = inverse @ design
    information = design.T @ white
    beta = np.linalg.solve(information, white.transpose(0, 2, 1) @ y[:, None])[..., 0]
    residual = y - beta @ design.T
    df = len(y) - 2
    weighted = np.einsum("hij,hj->hi", inverse, residual)
    variance = np.maximum((weighted * residual).sum(1) / df, 1e-300)
    evidence = -0.5 * (np.linalg.slogdet(covariance)[1] + np.linalg.slogdet(information)[1] + df * np.log(variance))
    weight = np.exp(evidence - evidence.max())
    keep = weight > NEGLIGIBLE * weight.max()
    weight, index = weight[keep] / weight[keep].sum(), index[keep]

    means = beta[keep] @ wanted.T + np.einsum("hmi,hi->hm", cross[index], weighted[keep])
    pulled = cross[index] @ inverse[keep]
    lever = wanted - pulled @ design
    spread = own[index] - (pulled * cross[index]).sum(2)
    spread += (lever @ np.linalg.inv(information[keep]) * lever).sum(2)
    return Posterior(weight, means, np.maximum(spread, 0) * variance[keep, None], df)


def _grid(u: Floats, v: Floats, scale: float) -> tuple[Floats, Floats, Floats]:
    """Return λk on the grid, straight line first: [G, N, N] of the runs, [G, M, N] across, [G, M] of the places."""
    sizes = [(_smooth, size) for size in SMOOTH_SIZES] + [(_rough, size) for size in ROUGH_SIZES]
    runs = [scale * size**2 * kernel(u[:, None], u) for kernel, size in sizes]
    cross = [scale * size**2 * kernel(v[:, None], u) for kernel, size in sizes]
    own = [scale * size**2 * kernel(v, v) for kernel, size in sizes]
    line = (np.zeros((len(u), len(u))), np.zeros((len(v), len(u))), np.zeros(len(v)))
    return np.stack([line[0], *runs]), np.stack([line[1], *cross]), np.stack([line[2], *own])


def _smooth(s: Floats, t: Floats) -> Floats:
    """Covariance of an integrated Wiener process, one at s = t = 1."""
    low, high = np.minimum(s, t), np.maximum(s, t)
    return np.asarray(low**2 * (3 * high - low) / 2)


def _rough(s: Floats, t: Floats) -> Floats:
    """Covariance of a Wiener process, one at s = t = 1."""
    return np.minimum(s, t)
