"""Finding each method's learning rate, all methods together: the rule is :mod:`idim.delta_tuning.rates`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from idim.delta_tuning.bench import Bench, Progress, train
from idim.delta_tuning.rates import first_rates, next_rate, usual_rate
from idim.models import is_pretrained
from idim.runs import Engine

ROUND_ONE = 3
Tried = dict[str, dict[float, float | None]]
"""By method, the selection scores of the rates tried; None where training failed."""


def tuned(bench: Bench, engine: Engine, names: Sequence[str], *, trials: int, progress: Progress) -> Tried:
    """Return what every method scored at each of ``trials`` rates."""
    tried: Tried = {name: {} for name in names}
    pretrained = is_pretrained(bench.model)
    usual = {name: usual_rate(name, pretrained=pretrained) for name in names}
    _try(bench, engine, tried, {name: first_rates(rate, trials) for name, rate in usual.items()}, progress)
    for _ in range(trials - ROUND_ONE):
        _try(bench, engine, tried, {name: [next_rate(tried[name])] for name in names}, progress)
    return tried


def in_words(trials: int) -> str:
    """Return the rule in words."""
    return (
        f"{trials} for each method, around its own usual rate and towards the best so far, "
        "one seed each; the one that scores best on the selection split is taken"
    )


def _try(bench: Bench, engine: Engine, tried: Tried, rates: Mapping[str, Sequence[float]], progress: Progress) -> None:
    """Train each method at these rates and enter the scores."""
    pairs = [(name, lr) for name, some in rates.items() for lr in some]
    outcomes = train(engine, [bench.trial(name, lr) for name, lr in pairs], "rates", progress)
    for (name, lr), outcome in zip(pairs, outcomes, strict=True):
        tried[name][lr] = outcome.result.selection_score if outcome.result else None
