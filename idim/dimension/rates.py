r"""The learning rate of each d, and how its one constant is tuned.

Every projection has columns of unit norm, so a step of size :math:`s` in one coordinate moves
:math:`\theta` by :math:`s`. An Adam step moves each of the :math:`d` coordinates by about the
learning rate, hence :math:`\theta` by about :math:`\mathrm{lr}\sqrt d`. The rule

.. math:: \mathrm{lr}(d) = c / \sqrt d

makes runs at all d travel at one speed :math:`c`; the constant is tuned on the selection split,
never on the split that is reported. The grid is geometric; it grows at an edge while the edge is
better than its neighbour by more than a standard error, and is halved once around the best.

Above its best rate a network of rectifiers often scores the same over a factor of a hundred, because
its answers hardly depend on the scale of its weights, and there chance would choose. The rate taken is
therefore the smallest whose mean score is within one standard error of the best: the one-standard-error
rule of Breiman, Friedman, Olshen and Stone, "Classification and Regression Trees", 1984.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

GRID_FACTOR = 4.0
MAX_GROWTH = 4
LEAST_TRIED = 5  # rates: three of the first grid, two around the best
START = {"adam": 1.2, "adamw": 1.2, "sgd": 3.0, "lbfgs": 1.0}  # c of subspace runs
START_FULL = {"adam": 2e-3, "adamw": 2e-3, "sgd": 0.1, "lbfgs": 1.0}
START_PRETRAINED = {"adam": 1e-4, "adamw": 1e-4, "sgd": 0.01, "lbfgs": 1.0}

Scores = tuple[float, ...]
Evaluate = Callable[[Sequence[float]], Sequence[Scores | None]]
"""Selection scores of some rates, one a seed; None where a training failed."""


@dataclass(frozen=True)
class Trial:
    """One learning rate that was tried while tuning; ``score`` is None where training failed."""

    d: int | None
    lr: float
    score: float | None


@dataclass(frozen=True)
class RateRule:
    """The learning rate as a function of d, in words and as a constant, with all that was tried."""

    rule: str
    constant: float
    power: float
    tried: tuple[Trial, ...] = ()

    def lr(self, d: int) -> float:
        """Return the learning rate at d."""
        return float(self.constant * d**-self.power)

    def report(self) -> dict[str, object]:
        """Return the rule as plain data for a report."""
        return {"rule": self.rule, "constant": self.constant, "tried": [vars(t) for t in self.tried]}


def fixed(lr: float, why: str) -> RateRule:
    """Return the rule of one learning rate for every d."""
    return RateRule(f"{why}: lr = {lr:g} for every d", lr, 0.0)


def given(constant: float, power: float) -> RateRule:
    """Return the rule that a user asked for: lr(d) = constant / d**power, the power being 0 or 1/2."""
    if not power:
        return fixed(constant, "as asked")
    return RateRule(f"as asked: lr(d) = {constant:g} / sqrt(d)", constant, power)


def tuned(c: float, tried: Sequence[Trial]) -> RateRule:
    """Return the rule lr(d) = c / sqrt(d)."""
    return RateRule("lr(d) = c / sqrt(d), c tuned on the selection split", c, 0.5, tuple(tried))


def tune(evaluate: Evaluate, start: float) -> tuple[float, dict[float, float | None]]:
    """Return the rate to take (see the module), and every rate tried with its mean score.

    When every rate failed, the smallest tried is returned with its None.
    """
    scores: dict[float, Scores | None] = {}

    def extend(rates: Sequence[float]) -> None:
        new = [r for r in rates if r not in scores]
        scores.update(zip(new, evaluate(new), strict=True))

    extend([start / GRID_FACTOR, start, start * GRID_FACTOR])
    for _ in range(MAX_GROWTH):
        edge = _edge_worth_passing(scores)
        if edge is None:
            break
        extend([edge])
    best = _choose(scores)
    extend([best / math.sqrt(GRID_FACTOR), best * math.sqrt(GRID_FACTOR)])
    return _choose(scores), dict(sorted(_means(scores).items()))


def _means(scores: Mapping[float, Scores | None]) -> dict[float, float | None]:
    return {rate: None if s is None else statistics.fmean(s) for rate, s in scores.items()}


def standard_error(scores: Mapping[float, Scores | None]) -> float:
    """Return the standard error of a rate's mean score, from the spread of seeds pooled over rates."""
    groups = [s for s in scores.values() if s is not None and len(s) > 1]
    if not groups:
        return 0.0
    pooled = statistics.fmean(statistics.variance(s) for s in groups)
    return math.sqrt(pooled / max(map(len, groups)))


def _edge_worth_passing(scores: Mapping[float, Scores | None]) -> float | None:
    """Return the next rate beyond an edge that is better than its neighbour by a standard error, if one is."""
    means = {rate: -math.inf if mean is None else mean for rate, mean in _means(scores).items()}
    rates, error = sorted(means), standard_error(scores)
    if means[rates[0]] > means[rates[1]] + error or max(means.values()) == -math.inf:
        return rates[0] / GRID_FACTOR
    return rates[-1] * GRID_FACTOR if means[rates[-1]] > means[rates[-2]] + error else None


def _choose(scores: Mapping[float, Scores | None]) -> float:
    known = {rate: mean for rate, mean in _means(scores).items() if mean is not None}
    if not known:
        return min(scores)
    within = max(known.values()) - standard_error(scores)
    return min(rate for rate, mean in known.items() if mean >= within)
