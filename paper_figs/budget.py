"""Score against d for several training budgets: d_int belongs to a budget and a learning-rate rule."""

from __future__ import annotations

import itertools

from idim import plots
from idim.dimension.result import DimensionResult
from paper_figs.common import answer, save, stored
from paper_figs.marks import published

COLOURS = (plots.GREY, plots.BLUE, plots.GREEN, plots.ORANGE)
PAPER = 750


def curves() -> dict[str, DimensionResult]:
    """Return the results from the shortest training to the longest; the paper's own protocol comes last."""
    tuned = {f"{int(steps):,} steps, lr = 2.4/√d": r for steps, r in stored("budget").items()}
    paper = stored("li2018")["fc"]
    results = tuned | {f"{paper.protocol['steps']:,} steps, lr = 0.001": paper}
    return dict(sorted(results.items(), key=lambda item: item[1].protocol["steps"]))


def draw() -> None:
    """Draw one curve a budget, with d_int where it crosses the bar."""
    results = curves()
    with plots.paper(2.7) as fig:
        ax = fig.subplots()
        ax.set_xscale("log")
        for colour, (name, result) in zip(itertools.cycle(COLOURS), results.items(), strict=False):
            points = [(p.d, p.mean) for p in result.curve if p.mean > 0.75]
            ax.plot(*zip(*points, strict=True), "o", ms=3.5, mfc="white", mec=colour)
            ax.plot(*zip(*[p for p in result.fit if p[1] > 0.75], strict=True), color=colour, label=name)
            if result.d_int is not None:
                ax.plot(result.d_int, result.bar["value"], "D", color=colour, ms=5)
        ax.axhline(0.9, color=plots.RED, ls="--", lw=1.2, label="bar 0.90")
        published(ax, PAPER, 0.9, "750, Li et al. 2018")
        plots.plain_log_ticks(ax)
        ax.set_xlabel("subspace coordinates d")
        ax.set_ylabel("accuracy")
        ax.set_title("784-200-200-10: d_int and the budget")
        ax.legend(loc="lower right")
        save(fig, "budget", {"ours": {k: answer(r) for k, r in results.items()}, "published": PAPER})
