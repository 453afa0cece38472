"""Score of a subspace of MiniLM on trec against the learning rate for several d; the best rule and the best rate."""

from __future__ import annotations

import itertools
import math
import statistics

from idim import plots
from paper_figs.common import save, stored

EXPERIMENT = "text_rates"
CONSTANTS = (0.25, 1.0, 4.0, 16.0)
COLOURS = (plots.GREY, plots.BLUE, plots.GREEN, plots.ORANGE)

Scores = dict[int, dict[float, float]]


def scores() -> Scores:
    """Return the mean score on the report split by d and rate."""
    found: Scores = {}
    for result in stored(EXPERIMENT).values():
        for point in result.curve:
            found.setdefault(point.d, {})[point.lr] = point.mean
    return {d: dict(sorted(found[d].items())) for d in sorted(found)}


def on_the_mean(found: Scores) -> tuple[dict[str, float], dict[str, float]]:
    """Return the mean over all d of every rule c/sqrt(d), by c, and the most that any one rate can have.

    Where a rate was not tried at a d, it counts as the best that was: no rule gains from what is missing.
    """
    rules = {c: [rates.get(c / math.sqrt(d)) for d, rates in found.items()] for c in CONSTANTS}
    every = sorted({lr for rates in found.values() for lr in rates})
    most = {lr: [rates.get(lr, max(rates.values())) for rates in found.values()] for lr in every if _tried(found, lr)}
    return (
        {f"{c:g}": statistics.fmean(v) for c, v in rules.items() if None not in v},  # type: ignore[type-var]
        {f"{lr:g}": statistics.fmean(v) for lr, v in most.items()},
    )


def _tried(found: Scores, lr: float) -> bool:
    """Return whether a rate was tried at more than half of the d."""
    return 2 * sum(lr in rates for rates in found.values()) > len(found)


def draw() -> None:
    """Draw one curve for each d, a ring where the best rule falls, a line at the best single rate."""
    found = scores()
    rules, rates = on_the_mean(found)
    c, lr = max(rules, key=lambda k: rules[k]), max(rates, key=lambda k: rates[k])
    with plots.paper(3.0) as fig:
        ax = fig.subplots()
        ax.set_xscale("log")
        for colour, (d, by_rate) in zip(itertools.cycle(COLOURS), found.items(), strict=False):
            ax.plot(*zip(*by_rate.items(), strict=True), "o-", ms=3, color=colour, label=f"d = {d:,}")
            own = float(c) / math.sqrt(d)
            ax.plot(own, by_rate[own], "o", ms=8, mfc="none", mec=plots.RED, mew=1.1)
        ax.axvline(float(lr), color=plots.RED, ls=":", label=f"best single rate, mean ≤ {rates[lr]:.3f}")
        ax.plot([], [], "o", ms=7, mfc="none", mec=plots.RED, label=f"rule {c}/√d, mean {rules[c]:.3f}")
        ax.set_xlabel("learning rate of AdamW on z")
        ax.set_ylabel("accuracy, report split")
        ax.set_title("MiniLM on trec: a rate for each d")
        fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        save(fig, "learning_rate", {"scores": found, "rules": rules, "rates": rates})
