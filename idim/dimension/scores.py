r"""Scores of finished runs as a table, and what they show without a model of the curve.

The expected score is taken to rise with d, and that alone gives two things. The *crossing* is
where the monotone least-squares fit of the mean scores (pool adjacent violators; Barlow,
Bartholomew, Bremner & Brunk 1972) reaches the bar. And a t test of one dimension's mean against
the bar bounds d_int on one side: a dimension surely below the bar is below d_int, one surely at
it is not.

Where a learning rate is too large for a large d, scores rise and then *collapse*; a monotone fit
through both sides would miss a bar that smaller d surely reach. d_int is the smallest d that
reaches it, so the runs from the collapse on are left out (:meth:`Scores.risen`).

The t test needs the variance of a run. It is pooled over the dimensions on the same side of the
crossing, because the sides differ where a score saturates: below the rank of a regression R²
scatters, from the rank on it is one to the last digit. A dimension with three runs or more
whose own variance is far smaller than that of its side stands on its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.special import fdtri

from idim.dimension.smoothing import Floats, Level, t_probability
from idim.errors import RequestError

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
Observations = Mapping[int, Mapping[int, float]]  # d -> seed -> score

SURE = 0.99  # one-sided; above 0.975 because several dimensions around the crossing are tested, again and again
COLLAPSE = 0.5  # share of the rise by which a score falls again before it is one, where no run is repeated
ODD = 0.002  # level at which a dimension's variance is called smaller than its side's


@dataclass(frozen=True)
class Scores:
    """Runs [N] as arrays ``d``, ``seed``, ``score``; their dimensions [K], rising, and the monotone fit there.

    ``group`` [N] is each run's place in ``dims``; ``count``, ``mean``, ``rising`` are [K].
    """

    d: Ints
    seed: Ints
    score: Floats
    dims: Ints
    group: NDArray[np.intp]
    count: NDArray[np.intp]
    mean: Floats
    rising: Floats

    @classmethod
    def of(cls, observations: Observations) -> Scores:
        """Return the table of finished runs.

        Raises:
            RequestError: when there is none, d < 1, or a score is not finite.
        """
        rows = sorted((int(d), int(s), float(y)) for d, seeds in observations.items() for s, y in seeds.items())
        if not rows:
            raise RequestError("an estimate needs at least one finished run; received none")
        for d, seed, score in rows:
            if d < 1 or not math.isfinite(score):
                raise RequestError(f"a run needs d >= 1 and a finite score; received {score} at d = {d}, seed {seed}")
        table = np.array(rows, dtype=np.float64)
        dims, group, count = np.unique(table[:, 0].astype(np.int64), return_inverse=True, return_counts=True)
        mean = np.bincount(group, table[:, 2]) / count
        rising = isotonic_regression(mean, weights=count.astype(float)).x
        return cls(dims[group], table[:, 1].astype(np.int64), table[:, 2], dims, group, count, mean, rising)

    def bracket(self, level: float) -> tuple[int | None, int | None]:
        """Return the last dimension whose monotone fit is below ``level`` and the first at it, None where none is."""
        first = int(np.searchsorted(self.rising, level))
        below = int(self.dims[first - 1]) if first else None
        return below, int(self.dims[first]) if first < len(self.dims) else None

    def risen(self, level: Level) -> Scores:
        """Return the scores without the dimensions from which on they fall below the bar again for good.

        A fall is believed when one dimension surely reaches the bar and a larger one surely does not, or when it is
        more than half of the rise before it; else all is returned.
        """
        reached = np.flatnonzero(self.mean >= level.mean)
        if not len(reached) or reached[-1] == len(self.dims) - 1 or self.rising[-1] >= level.mean:
            return self
        later = np.arange(len(self.dims)) > reached[-1]
        fallen = self._sure_places(level, later, -1) if self._sure_places(level, ~later, 1) else []
        top = int(np.argmax(np.where(later, -math.inf, self.mean)))
        drop = self.mean[top] - self.mean
        if top:
            fallen += np.flatnonzero(later & (drop > COLLAPSE * drop[:top].max())).tolist()
        return self._below(int(self.dims[min(fallen)])) if fallen else self

    def _below(self, d: int) -> Scores:
        runs, dims = self.d < d, self.dims < d
        mean, count = self.mean[dims], self.count[dims]
        rising = isotonic_regression(mean, weights=count.astype(float)).x
        return Scores(
            self.d[runs], self.seed[runs], self.score[runs], self.dims[dims], self.group[runs], count, mean, rising
        )

    def crossing(self, level: float) -> float:
        """Return where the monotone fit, straight in ln d between dimensions, reaches ``level``; at most an end."""
        first = int(np.searchsorted(self.rising, level))
        if first in (0, len(self.dims)):
            return float(self.dims[min(first, len(self.dims) - 1)])
        (low, high), x = self.rising[first - 1 : first + 1], np.log(self.dims[first - 1 : first + 1])
        return float(np.exp(x[0] + (x[1] - x[0]) * (level - low) / (high - low)))

    def near(self, centre: float, window: float) -> Mask:
        """Return which dimensions are within ``window`` of ``centre`` in ln d, at least two on either side: [K]."""
        near = np.abs(np.log(self.dims / centre)) <= window
        middle = int(np.searchsorted(self.dims, centre))
        near[max(middle - 2, 0) : middle + 2] = True
        return near

    def variance(self, chosen: Mask) -> tuple[float, int]:
        """Return the variance of runs about their dimension's mean, pooled over ``chosen`` [K], and its freedom."""
        deviation = (self.score - self.mean[self.group])[chosen[self.group]]
        df = int((self.count[chosen] - 1).sum())
        return (float(deviation @ deviation) / df if df else math.nan), df

    def sure(self, level: Level, near: Mask) -> tuple[int, float]:
        """Return the last dimension surely below ``level`` and the first surely at it, among ``near`` [K].

        Only a dimension with two runs or more is judged. Zero and infinity where none is sure.
        """
        passes = self.rising >= level.mean
        below = [self.dims[k] for k in self._sure_places(level, near & ~passes, -1)]
        above = [self.dims[k] for k in self._sure_places(level, near & passes, 1)]
        return int(max(below, default=0)), float(min(above, default=math.inf))

    def _sure_places(self, level: Level, side: Mask, sign: int) -> list[int]:
        pooled, df = self.variance(side)
        if df < 2:
            return []
        repeated = np.flatnonzero(side & (self.count > 1)).tolist()
        return [k for k in repeated if self._probability(k, sign, level, pooled, df) >= SURE]

    def _probability(self, place: int, sign: int, level: Level, pooled: float, df: int) -> float:
        """Return how sure it is that the mean at a place is above (sign 1) or below (sign -1) the level."""
        own, n = float(self.score[self.group == place].var()), int(self.count[place])
        own *= n / max(n - 1, 1)
        variance, df = (own, n - 1) if n >= 3 and own < pooled * fdtri(n - 1, df, ODD) else (pooled, df)
        gap = sign * (self.mean[place] - level.mean)
        return float(t_probability(np.array(gap), np.array(variance / n), df, level))
