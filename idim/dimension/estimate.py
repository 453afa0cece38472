r"""The intrinsic dimension and its 95 % interval from the scores of runs.

Definition: d_int is the smallest integer d whose expected score, over seeds as whole replicates
(initialisation, P and data order together), reaches the bar. The expected score :math:`f` rises
with d, so

.. math:: \Pr(d_\text{int} \le d) = \Pr(f(d) \ge \text{bar}),

and the probability on the right is the posterior of a smoothing spline in ln d with a random
effect for every seed, fitted to the runs around the crossing (:mod:`idim.dimension.smoothing`).
The estimate is its median, the interval its 2.5 % and 97.5 % quantiles; the standard error of a
bar that is a fraction of measured reference runs enters the same probability.

Two rules keep the interval honest where a smooth curve is the wrong picture (a step, a score that
saturates exactly at the bar):

- a measured dimension that is surely below or surely at the bar by a t test bounds the interval;
- the interval always holds the whole gap between the two measured dimensions around the
  crossing, because nothing was measured inside it.

Scores that collapse at large d (a learning rate out of its range) are not used: d_int is the
*smallest* d, and a monotone curve through the collapse would deny it.

Together they make the answer exact where runs decide it: 9 surely fails, 10 surely passes gives
[10, 10]. The benchmark ``benchmarks/estimator_coverage.py`` measures the coverage.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.optimize import isotonic_regression

from idim.dimension.scores import Ints, Mask, Observations, Scores
from idim.dimension.smoothing import Floats, Level, Posterior, posterior

WINDOW = math.log(6.0)  # runs farther than this factor from the crossing say little about it
PLACES = 120  # dimensions at which the probability is computed; a quantile is interpolated between them
CURVE = 200  # points of the fitted curve
LEAST_NOISE = 1e-3  # of the rise over the window: keeps the spline solvable where runs repeat exactly
FEWEST = 4  # runs near the crossing for a spline
ONE_SIGMA = 0.1587
SPLINE = "smoothing spline with seed effects, and t tests"
T_TESTS = "t tests alone: too few runs near the bar"


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The intrinsic dimension with its 95 % interval.

    Attributes:
        d_int: the estimate; None when no measured dimension reaches the bar.
        lo, hi: the 95 % interval, both ends included; ``hi`` is infinite where no measured dimension bounds it.
        censored: no measured dimension reaches the bar; the interval then starts at the largest of them
            or, where that one cannot be told from the bar, below it.
        open_below: the smallest measured dimension may already reach the bar, so ``lo`` is 1 for want of runs below.
        falls: the measured d from which on scores are below the bar again; it and all above it are left out.
        error: standard error of ``d_int``: half the central 68 %, no wider than the interval; nan where unbounded.
        runs, n_seeds: finished runs, and different seeds among them.
        method: how the interval was found, in words.
        curve: the fitted monotone curve over the measured dimensions, (d, score) pairs.
    """

    d_int: int | None
    lo: int
    hi: float
    censored: bool
    open_below: bool
    falls: int | None
    error: float
    runs: int
    n_seeds: int
    method: str
    curve: tuple[tuple[float, float], ...]

    @property
    def width(self) -> float:
        """Width of the interval as a fraction of ``d_int``; infinite when either is not known."""
        return math.inf if self.d_int is None else (self.hi - self.lo) / self.d_int

    def __str__(self) -> str:
        if self.d_int is None:
            return f"d_int not reached; 95 % interval [{self.lo}, inf)"
        return f"d_int = {self.d_int}, 95 % interval [{self.lo}, {self.hi:.0f}]"


def estimate(
    observations: Observations, *, threshold: float, error: float = 0.0, df: float = 1.0, d_min: int = 1
) -> Estimate:
    """Estimate the smallest d whose expected score reaches ``threshold``.

    A pure function: the same observations give the same numbers, in whatever order they came.

    Args:
        observations: d -> seed -> score of the finished runs; any may be missing.
        threshold: the score to reach.
        error: standard error of ``threshold`` (:meth:`idim.dimension.bar.Bar.error`).
        df: degrees of freedom of that error: reference runs less one.
        d_min: the smallest d there can be; the interval never goes below it.

    Raises:
        RequestError: when there is no run, d < 1, a score or the threshold is not finite, or its error negative.
    """
    level, measured = Level(mean=threshold, error=error, df=df), Scores.of(observations)
    scores = measured.risen(level)
    near = scores.near(scores.crossing(threshold), WINDOW)
    local = _fit(scores, near)
    above = scores.bracket(threshold)[1]
    lo, hi, spread, centre = _interval(scores, level, near, local)
    lo = max(lo, d_min)
    return Estimate(
        d_int=None if above is None else round(min(max(centre, lo), hi, scores.dims[-1])),
        lo=lo,
        hi=hi,
        censored=above is None,
        open_below=lo == d_min < int(scores.dims[0]) and _bounds(scores, level, near)[0] == 0,
        error=spread,
        falls=int(measured.dims[len(scores.dims)]) if len(scores.dims) < len(measured.dims) else None,
        runs=len(measured.d),
        n_seeds=len(np.unique(measured.seed)),
        method=SPLINE if local else T_TESTS,
        curve=_curve(scores, near, local),
    )


@dataclass(frozen=True)
class _Local:
    """The spline around the crossing at integer dimensions ``places`` [M]."""

    places: Ints
    fit: Posterior


def _fit(scores: Scores, near: Mask) -> _Local | None:
    """Fit the spline to the runs ``near`` the crossing, if they are enough for one."""
    keep, dims = near[scores.group], scores.dims[near]
    if keep.sum() < FEWEST or len(dims) < 2:
        return None
    places = np.union1d(dims, np.geomspace(dims[0], dims[-1], PLACES).round().astype(np.int64))
    rise = max(float(np.ptp(scores.rising[near])), 1e-12)
    variance, df = scores.variance(near)
    noise = max(math.sqrt(variance) if df else rise / 10, rise * LEAST_NOISE)
    x, y = np.log(scores.d[keep]), scores.score[keep]
    fit = posterior(x, scores.seed[keep], y, np.log(places), rise=max(rise, 3 * noise), noise=noise)
    return _Local(places, fit)


def _interval(scores: Scores, level: Level, near: Mask, local: _Local | None) -> tuple[int, float, float, float]:
    """Return lo, hi, the standard error and the median."""
    fails, passes = _bounds(scores, level, near)
    below, above = scores.bracket(level.mean)
    lo, hi, error = float(fails + 1), passes, math.nan
    centre = float(math.ceil(scores.crossing(level.mean) - 1e-9))
    if local is not None:
        low, one, middle, other, high = _quantiles(local, level, (0.025, ONE_SIGMA, 0.5, 1 - ONE_SIGMA, 0.975))
        bounded = low > local.places[0] or fails > 0
        lo, hi, centre = max(lo, low if bounded else 1.0), min(hi, high), middle
        error = (min(other, hi) - max(one, lo)) / 2
    if above is None:
        return int(min(lo, scores.dims[-1])), math.inf, math.nan, centre
    return int(min(lo, (below or 0) + 1)), max(hi, float(above)), error if 0 <= error < math.inf else math.nan, centre


def _bounds(scores: Scores, level: Level, near: Mask) -> tuple[int, float]:
    """Return the last dimension that surely fails and the first that surely passes, nearby or else anywhere."""
    fails, passes = scores.sure(level, near)
    far_fails, far_passes = scores.sure(level, np.ones_like(near))
    return fails or far_fails, passes if math.isfinite(passes) else far_passes


def _quantiles(local: _Local, level: Level, wanted: tuple[float, ...]) -> list[float]:
    """Return the smallest d with Pr(d_int <= d) at least as wanted; infinite beyond the last place."""
    cumulative = np.maximum.accumulate(local.fit.reaches(level))
    return [_quantile(local.places, cumulative, q) for q in wanted]


def _quantile(places: Ints, cumulative: Floats, q: float) -> float:
    k = int(np.searchsorted(cumulative, q))
    if k == len(places):
        return math.inf
    if k == 0 or places[k] == places[k - 1] + 1:
        return float(places[k])
    share = (q - cumulative[k - 1]) / (cumulative[k] - cumulative[k - 1])
    return float(math.ceil(places[k - 1] * (places[k] / places[k - 1]) ** share - 1e-9))


def _curve(scores: Scores, near: Mask, local: _Local | None) -> tuple[tuple[float, float], ...]:
    """Return a monotone curve through the spline near the crossing and the monotone fit elsewhere."""
    dims, knots = scores.dims, scores.rising.copy()
    if len(dims) == 1:
        return ((float(dims[0]), float(knots[0])),)
    if local is not None:
        knots[near] = local.fit.mean[np.searchsorted(local.places, dims[near])]
    rising = isotonic_regression(knots).x
    d = np.union1d(np.geomspace(dims[0], dims[-1], CURVE)[1:-1], dims)
    score = PchipInterpolator(np.log(dims), rising)(np.log(d))
    return tuple(zip(d.tolist(), score.tolist(), strict=True))
