"""Simulated score curves with a known intrinsic dimension, for the study of the estimator.

A world is a rising curve f(d), a bar, and the noise of a run: a part shared by all runs of one
seed (and drifting with ln d), a part of its own, and where asked the binomial noise of a test
set. Sizes are those of small networks: 0.003 to 0.006 within a seed, 0.002 to 0.004 between seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.random import Generator, default_rng
from scipy.interpolate import PchipInterpolator

# Two hidden layers of 200 on MNIST through random subspaces: d and test accuracy.
MNIST_D = (1, 10, 50, 100, 250, 500, 750, 1000, 3000, 10_000, 199_210)
MNIST_SCORE = (0.1, 0.2, 0.45, 0.62, 0.80, 0.885, 0.908, 0.922, 0.95, 0.965, 0.975)
D_MAX = 200_000


@dataclass(frozen=True, kw_only=True)
class World:
    """A curve with its noise; ``score``, ``noise`` are functions of d, the rest are standard deviations or sizes."""

    score: Callable[[int], float]
    threshold: float
    noise: Callable[[int], float]
    between: float = 0.0
    drift: float = 0.0
    test_rows: int = 0
    references: int = 0
    multiplicative: bool = False  # noise multiplies the distance from one, as for R²
    d_max: int = D_MAX
    seed: int = 0
    truth: int = field(init=False)

    def __post_init__(self) -> None:
        low, high = 1, self.d_max
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.score(middle) >= self.threshold else (middle + 1, high)
        object.__setattr__(self, "truth", low)

    def run(self, d: int, seed: int) -> float:
        """Return the score of one run: a pure function of the world, d and the seed."""
        own, shared = default_rng([self.seed, seed, d]), default_rng([self.seed, seed])
        level, slope = shared.normal(size=2)
        if self.multiplicative:
            return 1 - (1 - self.score(d)) * math.exp(self.noise(d) * own.normal())
        y = self.score(d) + self.noise(d) * own.normal()
        y += self.between * level + self.drift * slope * math.log(d / self.truth)
        return float(own.binomial(self.test_rows, min(max(y, 0), 1)) / self.test_rows) if self.test_rows else float(y)

    def level(self) -> dict[str, float]:
        """Return the bar as the search is told it: exact, or 95 % of a reference measured with a few runs."""
        if not self.references:
            return {"threshold": self.threshold}
        runs = self.threshold / 0.95 + 0.004 * default_rng([self.seed, 9]).normal(size=self.references)
        error = 0.95 * runs.std(ddof=1) / math.sqrt(self.references)
        return {"threshold": float(0.95 * runs.mean()), "error": float(error), "df": self.references - 1}


def _noisy(rng: Generator, score: Callable[[int], float], threshold: float) -> World:
    own, between = rng.uniform(0.003, 0.006), rng.uniform(0.002, 0.004)
    return World(score=score, threshold=threshold, noise=lambda d: own, between=between)


def _anywhere(rng: Generator, low: float = 5, high: float = 50_000) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def mnist(rng: Generator) -> World:
    """The measured MNIST curve, absolute bar 0.90."""
    curve = PchipInterpolator(np.log(MNIST_D), MNIST_SCORE)
    return replace(_noisy(rng, lambda d: float(curve(math.log(d))), 0.9), d_max=199_210)


def drifting(rng: Generator) -> World:
    """The same, with seed effects that drift with ln d."""
    return replace(mnist(rng), drift=0.003)


def alike(rng: Generator) -> World:
    """The same, with runs of one seed nearly alike at every d: few independent replicates."""
    return replace(mnist(rng), noise=lambda d: 0.001, between=0.005)


def exponential(rng: Generator) -> World:
    """Saturating stretched exponential."""
    d_int, power = _anywhere(rng), rng.uniform(0.3, 1)
    return _noisy(rng, lambda d: 0.1 + 0.85 * (1 - 0.1 ** ((d / d_int) ** power)), 0.1 + 0.85 * 0.9)


def logistic(rng: Generator) -> World:
    """Logistic in ln d."""
    d_int, scale = _anywhere(rng), rng.uniform(0.3, 1.5)
    odds = lambda d: math.exp(-math.log(d / d_int) / scale) / 9  # noqa: E731
    return _noisy(rng, lambda d: 0.1 + 0.87 / (1 + odds(d)), 0.1 + 0.87 * 0.9)


def kink(rng: Generator) -> World:
    """Two straight pieces, five times flatter above; the bar within a factor 1.5 of the kink."""
    at = _anywhere(rng)
    score = lambda d: max(0.1, 0.85 + (0.15 if d < at else 0.03) * math.log(d / at))  # noqa: E731
    return _noisy(rng, score, score(at * math.exp(rng.uniform(-0.4, 0.4))))


def plateau(rng: Generator) -> World:
    """At chance up to d = 10, then saturating."""
    d_int = _anywhere(rng, 20, 2000)
    rise = lambda d: 1 - 0.1 ** ((max(d - 9, 0) / (d_int - 9)) ** 0.8)  # noqa: E731
    return replace(_noisy(rng, lambda d: 0.1 + 0.85 * rise(d), 0.1 + 0.85 * 0.9), d_max=60_000)


def binomial(rng: Generator) -> World:
    """Scores counted on a thousand test rows."""
    return replace(exponential(rng), noise=lambda d: 0.002, between=0.003, test_rows=1000)


def uneven(rng: Generator) -> World:
    """Noise that grows up to tenfold towards small d."""
    world = logistic(rng)
    return replace(world, noise=lambda d: 0.003 * min(10.0, 1 + (world.truth / d) ** 0.7))


def step(rng: Generator) -> World:
    """A jump from 0.5 to 0.95 within two to eight per cent of d, the bar anywhere in it."""
    d_int, scale, share = _anywhere(rng), rng.uniform(0.02, 0.08), rng.uniform(0.2, 0.95)
    middle = math.log(share / (1 - share))
    rise = lambda d: 0.5 + 0.5 * math.tanh((math.log(d / d_int) / scale + middle) / 2)  # noqa: E731
    return _noisy(rng, lambda d: 0.5 + 0.45 * rise(d), 0.5 + 0.45 * share)


def shallow(rng: Generator) -> World:
    """A slope of only 0.025 per unit of ln d: a tenth of d costs half a standard deviation."""
    d_int = _anywhere(rng)
    return _noisy(rng, lambda d: 0.9 + 0.025 * math.log(d / d_int), 0.9)


def relative(rng: Generator) -> World:
    """A bar of 95 % of a reference measured with three runs."""
    return replace(logistic(rng), references=3)


def toy(rng: Generator) -> World:
    """Constraints met one by one, no noise: exactly solved from d = their number on."""
    d_int = int(rng.integers(1, 60))
    return World(score=lambda d: min(1.0, d / d_int), threshold=0.999999, noise=lambda d: 0.0, d_max=1000)


def rank(rng: Generator) -> World:
    """R² of a regression of known rank: scattered below the rank, one from it on."""
    return replace(toy(rng), noise=lambda d: 0.4, multiplicative=True)


FAMILIES: dict[str, Callable[[Generator], World]] = {
    f.__name__: f
    for f in (
        mnist,
        drifting,
        alike,
        exponential,
        logistic,
        kink,
        plateau,
        binomial,
        uneven,
        step,
        shallow,
        relative,
        toy,
        rank,
    )
}


def draw(family: str, number: int) -> World:
    """Return the world of this number in a family."""
    place = list(FAMILIES).index(family)
    return replace(FAMILIES[family](default_rng([place, number])), seed=1000 * number + place)
