"""d_int of MNIST 784-200-200-10 for every kind of random projection, beside the paper's values."""

from __future__ import annotations

from idim import plots
from paper_figs.common import answer, save, stored
from paper_figs.marks import interval

PAPER = {"Li et al. 2018": 750, "their arrays, bootstrap": 786}


def draw() -> None:
    """Draw one interval a kind."""
    results = dict(sorted(stored("mnist_fc_kinds").items(), key=lambda item: item[1].d_int or 0))
    with plots.paper(2.8) as fig:
        ax = fig.subplots()
        for row, result in enumerate(results.values()):
            interval(ax, row, result, plots.BLUE)
            shown = (result.d_int or result.ci95[0], row)
            ax.annotate(f"{result.d_int}", shown, xytext=(0, 4), textcoords="offset points", ha="center", fontsize=7)
        for (name, d), style in zip(PAPER.items(), ("--", ":"), strict=True):
            ax.axvline(d, color=plots.RED, ls=style, lw=1.1, label=f"{name}: {d}")
        ax.set_yticks(range(len(results)), list(results))
        ax.set_ylim(-2.2, len(results) - 0.2)  # room for the legend below
        ax.set_xlabel("d_int, 95 % interval (bar 0.90, 1,500 steps)")
        ax.set_title("784-200-200-10 on MNIST, D = 199,210")
        ax.legend(loc="lower right")
        save(fig, "kinds", {"ours": {k: answer(r) for k, r in results.items()}, "published": PAPER})
