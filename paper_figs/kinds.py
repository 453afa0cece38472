"""d_int of MNIST 784-200-200-10 for every kind of random projection, beside the paper's values."""

from __future__ import annotations

from idim import plots
from paper_figs.common import answer, save, stored

PAPER = {"Li et al. 2018": 750, "their arrays, bootstrap": 786}


def draw() -> None:
    """Draw one interval a kind."""
    results = dict(sorted(stored("mnist_fc_kinds").items(), key=lambda item: item[1].d_int or 0))
    with plots.figure(figsize=(6.4, 3.4)) as (fig, ax):
        for row, result in enumerate(results.values()):
            if result.d_int is None:
                continue
            lo, hi = result.ci95
            ax.plot([lo, hi], [row, row], color=plots.BLUE, lw=5, alpha=0.35, solid_capstyle="butt")
            ax.plot(result.d_int, row, "o", color=plots.BLUE, ms=6)
            ax.annotate(f"{result.d_int}", (result.d_int, row), xytext=(0, 7), textcoords="offset points", ha="center")
        for (name, d), style in zip(PAPER.items(), ("--", ":"), strict=True):
            ax.axvline(d, color=plots.RED, ls=style, lw=1.2, label=f"{name}: {d}")
        ax.set_yticks(range(len(results)), list(results))
        ax.set_ylim(-2.0, len(results) - 0.2)  # room for the legend below
        ax.set_xlabel("d_int and its 95 % interval (bar 0.90, 1,500 steps, tuned rate)")
        ax.set_title("MNIST 784-200-200-10, D = 199,210")
        ax.legend(loc="lower right")
        save(fig, "kinds", {"ours": {k: answer(r) for k, r in results.items()}, "published": PAPER})
