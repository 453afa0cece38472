r"""The learning rate of each d, and how its one constant is tuned.

Every projection has columns of unit norm, so a step of size :math:`s` in one coordinate moves
:math:`\theta` by :math:`s`. An Adam step moves each of the :math:`d` coordinates by about the
learning rate, hence :math:`\theta` by about :math:`\mathrm{lr}\sqrt d`. The rule

.. math:: \mathrm{lr}(d) = c / \sqrt d

makes runs at all d travel at one speed :math:`c`; the constant is tuned on the selection split,
never on the split that is reported. The grid is geometric, grows while the best rate is at its
edge, and is halved once around the best.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

GRID_FACTOR = 4.0
MAX_GROWTH = 4
START = {"adam": 0.3, "adamw": 0.3, "sgd": 3.0, "lbfgs": 1.0}  # c of subspace runs
START_FULL = {"adam": 2e-3, "adamw": 2e-3, "sgd": 0.1, "lbfgs": 1.0}

Evaluate = Callable[[Sequence[float]], Sequence[float | None]]
"""Selection scores of some rates, None where the training failed."""


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


def tuned(c: float, tried: Sequence[Trial]) -> RateRule:
    """Return the rule lr(d) = c / sqrt(d)."""
    return RateRule("lr(d) = c / sqrt(d), c tuned on the selection split", c, 0.5, tuple(tried))


def tune(evaluate: Evaluate, start: float) -> tuple[float, dict[float, float | None]]:
    """Return the best rate by selection score, and every rate tried with its score.

    Ties go to the rate nearest the middle of those that tie, then to the smaller one. When every
    rate failed, the smallest tried is returned with its None.
    """
    scores: dict[float, float | None] = {}

    def extend(rates: Sequence[float]) -> None:
        new = [r for r in rates if r not in scores]
        scores.update(zip(new, evaluate(new), strict=True))

    extend([start / GRID_FACTOR, start, start * GRID_FACTOR])
    for _ in range(MAX_GROWTH):
        best = _best(scores)
        if best == min(scores):
            extend([best / GRID_FACTOR])
        elif best == max(scores):
            extend([best * GRID_FACTOR])
        else:
            break
    best = _best(scores)
    extend([best / math.sqrt(GRID_FACTOR), best * math.sqrt(GRID_FACTOR)])
    return _best(scores), dict(sorted(scores.items()))


def _best(scores: dict[float, float | None]) -> float:
    known = {r: s for r, s in scores.items() if s is not None}
    if not known:
        return min(scores)
    top = sorted(r for r, s in known.items() if s == max(known.values()))
    return top[(len(top) - 1) // 2]
