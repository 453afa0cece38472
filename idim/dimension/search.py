"""Which trainings to do next: a sequential design for d_int.

:func:`propose` is a pure function of the finished runs, never of the order or the time in which
they came, so a search that is started again walks the same way. It goes through three stages.

*Bracket.* Single runs at points that divide the bracket of the crossing evenly in ln d, as many at a
time as there are workers, until its ends are within a factor of two. With two at a time that
takes six runs for a network of 200,000 parameters, where a ladder with the ratio two takes eighteen.
The crossing is that of the monotone fit, so one bad run does not hold the search where it is.

*Narrow.* All further runs go to two *deciding* dimensions a little below and above the estimate.
Their distance is a trade: the level at the crossing is known equally well from points at any
distance, its slope better from distant ones, but the interval always holds the gap between them
(see :mod:`idim.dimension.estimate`) and a kinked curve is seen wrongly from afar. At 0.4 of the wanted
width on either side the gap is four fifths of the wanted width. When the estimate moves, the
points move with it; a dimension that is near enough is used again, with its next seed.

*Exact.* Where d is small and every run says the same (all below the bracket fail, all above
pass), the bracket is divided down to adjacent integers: there a step is likely, and each
division costs one round.

Where no measured dimension reaches the bar, the largest is tried, and then the way from the best one
to the next larger: scores that fall there (a learning rate out of its range) may have passed the bar.

The search is done when the interval is narrow enough and each deciding dimension has its seeds;
when the budget is spent; when the bar is not reached at ``d_max``; or when the spread of the
reference runs alone keeps the interval wide, which no training in the subspace mends.

A training that failed is spent, is never proposed again, and a dimension where as many failed
as there are seeds, and none succeeded, is passed by.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

import numpy as np

from idim.dimension.estimate import Estimate, estimate
from idim.dimension.scores import Observations, Scores
from idim.dimension.smoothing import Level
from idim.errors import RequestError

Point = tuple[int, int]  # d, seed

COARSE = 2.0  # ratio of a bracket at which its ends are near enough for a fit
OFFSET = 0.4  # distance of a deciding dimension from the estimate, as a share of the wanted width
REUSE = 0.25  # a measured dimension this near to a wanted one is used in its place, same unit
EXACT = 64  # largest d that is sought to the integer
DETOUR = 0.05  # step in ln d past a dimension where every training failed


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """The next trainings, or none and why.

    Attributes:
        points: (d, seed) pairs, none finished or failed before; empty exactly when done.
        done: whether the search is over.
        reason: what the points are for, or why the search is over, in words.
    """

    points: tuple[Point, ...]
    done: bool
    reason: str


def propose(
    observations: Observations,
    *,
    threshold: float,
    d_max: int,
    d_min: int = 1,
    seeds: int = 3,
    width: float = 0.25,
    budget: int = 40,
    batch: int = 2,
    dims: Sequence[int] | None = None,
    failed: Set[Point] = frozenset(),
    error: float = 0.0,
    df: float = 1.0,
) -> Proposal:
    """Propose the next trainings.

    Args:
        observations: d -> seed -> score of the finished runs.
        threshold: the score to reach; ``error`` and ``df`` are its standard error and degrees of freedom.
        d_max: the largest d to try, usually D.
        d_min: the smallest d to try.
        seeds: least number of runs at a dimension that decides. More are used where they are needed.
        width: the interval's width to reach, as a fraction of d_int; infinite for a bracket only.
        budget: most trainings in all, failed ones included.
        batch: trainings in one proposal; at least the number of workers keeps them busy.
        dims: measure exactly these dimensions with ``seeds`` seeds each; ``width`` and ``budget`` are not used.
        failed: (d, seed) pairs that failed.

    Raises:
        RequestError: when an option is out of range.
    """
    options = _Options(d_min, d_max, seeds, width, budget, batch)
    search = _Search(options, observations, failed)
    if dims is not None:
        return search.fixed(dims)
    if not any(observations.values()):
        return search.first()
    level = Level(mean=threshold, error=error, df=df)
    return search.step(Scores.of(observations).risen(level), threshold, error, df)


def _done(reason: str) -> Proposal:
    return Proposal(points=(), done=True, reason=reason)


@dataclass(frozen=True)
class _Options:
    d_min: int
    d_max: int
    seeds: int
    width: float
    budget: int
    batch: int

    def __post_init__(self) -> None:
        if not 1 <= self.d_min <= self.d_max:
            raise RequestError(f"1 <= d_min <= d_max must hold; received d_min = {self.d_min}, d_max = {self.d_max}")
        for name in ("seeds", "budget", "batch"):
            if getattr(self, name) < 1:
                raise RequestError(f"{name} must be at least 1; received {getattr(self, name)}")
        if not self.width > 0:
            raise RequestError(f"width must be above 0; received {self.width}")


@dataclass(frozen=True)
class _Search:
    options: _Options
    observations: Observations
    failed: Set[Point]

    # -- stages -------------------------------------------------------------------------------

    def fixed(self, dims: Sequence[int]) -> Proposal:
        """All of the given dimensions with all seeds, no adaptation."""
        o = self.options
        outside = [d for d in dims if not o.d_min <= d <= o.d_max]
        if outside or not dims:
            raise RequestError(f"dims must be between {o.d_min} and {o.d_max}; received {outside or 'none'}")
        wanted = [(d, s) for d in sorted(set(dims)) for s in range(o.seeds) if not self._tried(d, s)]
        if not wanted:
            return _done("every given dimension has its seeds")
        return Proposal(points=tuple(wanted), done=False, reason=f"given dimensions: {len(wanted)} runs")

    def first(self) -> Proposal:
        """Divide the whole range."""
        o = self.options
        return self._runs(self._between(o.d_min, o.d_max + 1, o.batch) or [o.d_min], "bracket: first points")

    def step(self, scores: Scores, threshold: float, error: float, df: float) -> Proposal:
        """Bracket, or narrow, or stop."""
        o = self.options
        below, above = scores.bracket(threshold)
        if above is None:
            return self._unreached(scores, below or o.d_min)
        if below is None and above > o.d_min:
            return self._towards(o.d_min, o.d_min, above)
        below = o.d_min - 1 if below is None else below
        if above - below > 1 and above > COARSE * below >= COARSE:
            return self.section(below, above, f"bracket: between {below} and {above}")
        if math.isinf(o.width):
            return _done(f"bracketed between {below} and {above}")
        apart = below < EXACT and self._separated(below, above, threshold)
        if apart and above - below > 1:
            return self.section(below, above, f"exact: between {below}, which fails, and {above}, which passes")
        answer = estimate(self.observations, threshold=threshold, error=error, df=df, d_min=o.d_min)
        if (answer.lo, answer.hi) == (below + 1, above) and answer.width > o.width:  # only a point inside helps
            return self.section(below, above, f"narrow: {below} surely fails and {above} surely passes")
        ends = (below, above) if apart else self._deciding(answer.d_int or above, scores)
        return self._narrow(answer, [d for d in ends if d >= o.d_min], threshold, error)

    def section(self, low: int, high: int, reason: str) -> Proposal:
        """One run at each of the points that divide (low, high) evenly in ln d."""
        return self._runs(self._between(low, high, self.options.batch), reason)

    def _unreached(self, scores: Scores, below: int) -> Proposal:
        """Nothing reaches the bar yet: look at the largest d, then above the best one, and repeat before saying so."""
        o, top = self.options, self._alive(self.options.d_max, below, self.options.d_max)
        if top is None or (below >= top and self._count(below) >= o.seeds) or (below >= top and math.isinf(o.width)):
            return _done(f"the bar is not reached by d = {below}")
        if below < top:
            return self._towards(top, below, top)
        best, *larger = scores.dims[np.flatnonzero(scores.mean == scores.mean.max())[-1] :].tolist()
        if larger and larger[0] > COARSE * best:  # rates out of range at large d may hide a bar that is reached there
            return self.section(best, larger[0], f"scores are best at d = {best}: between it and {larger[0]}")
        return self._runs([top], f"the bar is not reached by d = {top}: repeating it")

    def _towards(self, end: int, low: int, high: int) -> Proposal:
        """Run the end of the range, and divide the way there."""
        between = self._between(low, high, self.options.batch - 1)
        wanted = self._alive(end, *sorted((low, high)))
        return self._runs([*([wanted] if wanted is not None else []), *between], f"bracket: towards {end}")

    def _narrow(self, answer: Estimate, ends: Sequence[int], threshold: float, error: float) -> Proposal:
        o = self.options
        short = [d for d in ends if self._count(d) < o.seeds]
        share = f"{answer.width:.0%} of {answer.d_int}"
        if not short and answer.width <= o.width:
            return _done(f"the interval is narrow enough: {share}, at most {o.width:.0%} asked")
        if not short and error > 0 and self._held_by_reference(answer, threshold):
            return _done(f"the spread of the reference runs holds the interval at {share}: give more reference runs")
        return self._runs(short or ends, f"narrow: the interval is {share}, {o.width:.0%} asked")

    def _held_by_reference(self, answer: Estimate, threshold: float) -> bool:
        """Whether the part of the width that comes from the reference (they add in quadrature) is already too much."""
        own = estimate(self.observations, threshold=threshold, d_min=self.options.d_min).width
        return answer.width**2 - own**2 > self.options.width**2  # false where both are infinite

    # -- points -------------------------------------------------------------------------------

    def _deciding(self, centre: int, scores: Scores) -> tuple[int, ...]:
        """Return the dimensions a little below and above the estimate, measured ones where they are near enough."""
        o, reach = self.options, math.exp(OFFSET * self.options.width)
        low = max(min(math.floor(centre / reach), centre - 1), o.d_min)
        high = min(max(round(centre * reach), centre), o.d_max)
        usable = [d for d in scores.dims.tolist() if o.d_min <= d <= o.d_max]
        pair = (
            self._reuse(low, [d for d in usable if d < centre]) or self._alive(low, o.d_min, centre - 1),
            self._reuse(high, [d for d in usable if d >= centre]) or self._alive(high, centre, o.d_max),
        )
        return tuple(dict.fromkeys(d for d in pair if d is not None))

    def _reuse(self, wanted: int, usable: Iterable[int]) -> int | None:
        near = min(usable, key=lambda d: (abs(math.log(d / wanted)), d), default=None)
        return near if near is not None and abs(math.log(near / wanted)) <= REUSE * self.options.width else None

    def _between(self, low: int, high: int, points: int) -> list[int]:
        """Return at most ``points`` new dimensions inside (low, high), evenly in ln d."""
        if high - low < 2:
            return []
        step = math.log(high / low) / (points + 1)
        even = [min(max(round(low * math.exp(step * k)), low + 1), high - 1) for k in range(1, points + 1)]
        alive = [self._alive(d, low + 1, high - 1) for d in dict.fromkeys(even)]
        return list(dict.fromkeys(d for d in alive if d is not None))

    def _alive(self, wanted: int, low: int, high: int) -> int | None:
        """Return the nearest dimension in [low, high] where a training may succeed."""
        for k in range(round(math.log(max(high, 2)) / DETOUR) + 1):
            for d in (round(wanted * math.exp(-k * DETOUR)) - k, round(wanted * math.exp(k * DETOUR)) + k):
                if low <= d <= high and not self._dead(d):
                    return d
        return None

    def _runs(self, dims: Sequence[int], reason: str) -> Proposal:
        """Propose a batch over these dimensions, the next seed where runs are fewest."""
        room = min(self.options.batch, self.options.budget - self.spent)
        if not dims or room < 1:
            spent = f"the budget of {self.options.budget} trainings is spent"
            return _done(spent if dims else "no dimension is left to try")
        points: list[Point] = []
        while len(points) < room:
            taken = {d: sum(p[0] == d for p in points) for d in dims}
            d = min(dims, key=lambda d: (self._count(d) + taken[d], d))
            points.append((d, self._seeds(d, taken[d] + 1)[-1]))
        return Proposal(points=tuple(points), done=False, reason=reason)

    # -- bookkeeping --------------------------------------------------------------------------

    @property
    def spent(self) -> int:
        """Trainings so far, failed ones included."""
        return sum(map(len, self.observations.values())) + len(self.failed)

    def _count(self, d: int) -> int:
        return len(self.observations.get(d, ()))

    def _tried(self, d: int, seed: int) -> bool:
        return seed in self.observations.get(d, ()) or (d, seed) in self.failed

    def _seeds(self, d: int, n: int = 1) -> list[int]:
        """Return the first ``n`` seeds not yet tried at d."""
        free: list[int] = []
        seed = 0
        while len(free) < n:
            free += [] if self._tried(d, seed) else [seed]
            seed += 1
        return free

    def _dead(self, d: int) -> bool:
        """Whether as many trainings failed at d as there are seeds, and none succeeded."""
        return not self._count(d) and sum(p[0] == d for p in self.failed) >= self.options.seeds

    def _separated(self, below: int, above: int, threshold: float) -> bool:
        """Whether every run at d <= below fails and every one at d >= above passes."""
        return all(
            (score >= threshold) == (d >= above) and (d <= below or d >= above)
            for d, runs in self.observations.items()
            for score in runs.values()
        )
