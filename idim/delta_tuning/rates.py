r"""The learning rate of each method: the same number of trials, by the same rule, around its usual start.

Each method starts from a usual rate :math:`r` of its own (:data:`USUAL`) and tries :math:`r/4, r, 4r`. Every further
trial lies a factor of four beyond the best one while that is at an edge, and else halves, in the logarithm, the gap
between the best and the better of its neighbours. Every method gets the same number of trials; a usual rate that is
wrong by a factor of 16 is put right by two of them. The score is that of the selection split, with one seed; of equal
ones the smallest rate is taken.

The usual rates are those of the papers, raised for the hundred steps or so of a small budget.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from idim.methods import parse

FACTOR = 4.0
USUAL: dict[str, float] = {
    "full": 1e-4,
    "probe": 4e-2,
    "adapter": 4e-3,
    "prompt": 3e-2,
    "ptuning": 1e-3,
    "prefix": 3e-4,
    "ptuning2": 4e-2,
    "ladder": 8e-3,
    "last": 3e-4,
    "bitfit": 8e-3,
    "norm": 8e-3,
    "random_mask": 4e-3,
    "diffpruning": 3e-4,
    "masks": 3e-4,
    "lora": 4e-3,
    "adalora": 4e-3,
    "dora": 4e-3,
    "qlora": 4e-3,
    "vera": 4e-2,
    "unilora": 8e-2,
    "tinylora": 2e-2,
}
FRESH = {"full": 2e-3}
"""Where the network was not trained before."""
SUBSPACES, SPEED = ("did", "said"), 4.8
"""How far an Adam step moves theta in a subspace: the rate of each of d coordinates is this over the root of d."""
ANY = 1e-3

Scores = Mapping[float, float | None]
"""Selection scores by rate; None where the training failed."""


def usual_rate(name: str, *, pretrained: bool = True) -> float:
    """Return the rate around which a method is tuned; the lowest of its parts' for a combination."""
    if "+" in name:
        return min(usual_rate(part, pretrained=pretrained) for part in name.split("+"))
    kind = name.partition(":")[0]
    if kind in SUBSPACES:
        return SPEED / math.sqrt(vars(parse(name))["d"])
    usual = USUAL.get(kind, ANY)
    return usual if pretrained else FRESH.get(kind, usual)


def first_rates(usual: float, trials: int) -> list[float]:
    """Return the rates to begin with, the usual one first; at most three, and no more than the trials there are."""
    return [usual, usual * FACTOR, usual / FACTOR][:trials]


def next_rate(scores: Scores) -> float:
    """Return the rate to try after these (see the module)."""
    rates = sorted(scores)
    place = rates.index(best_rate(scores))
    if place == 0:
        return rates[0] / FACTOR
    if place == len(rates) - 1:
        return rates[-1] * FACTOR
    neighbours = (rates[place - 1], rates[place + 1])
    return math.sqrt(rates[place] * max(neighbours, key=lambda rate: _value(scores[rate])))


def best_rate(scores: Scores) -> float:
    """Return the smallest rate of the highest score; the smallest of all where every training failed."""
    return max(sorted(scores), key=lambda rate: _value(scores[rate]))


def _value(score: float | None) -> float:
    return -math.inf if score is None else score
