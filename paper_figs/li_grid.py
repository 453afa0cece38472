"""d_int of networks of many widths and depths (Li et al. 2018, arXiv:1804.08838, figure 3)."""

from __future__ import annotations

import math

from idim import plots
from paper_figs.common import answer, save, stored
from paper_figs.marks import published

DEPTHS = {1: ("1 hidden layer", "o", plots.BLUE), 2: ("2 layers", "s", plots.ORANGE), 3: ("3 layers", "^", plots.GREEN)}
PAPER = (199_210, 750)


def draw() -> None:
    """Draw d_int and its interval against D: a line for each depth, along the widths."""
    results = {tuple(map(int, name.split("x"))): r for name, r in stored("li_grid").items()}
    with plots.paper(2.6) as fig:
        ax = fig.subplots()
        ax.set_xscale("log")
        for depth, (label, mark, colour) in DEPTHS.items():
            found = [r for (_, own), r in sorted(results.items()) if own == depth and r.d_int is not None]
            heights = [r.d_int or math.nan for r in found]
            ends = [[r.d_int - r.ci95[0], min(r.ci95[1], 1200) - r.d_int] for r in found if r.d_int is not None]
            ax.errorbar(
                [r.D for r in found],
                heights,
                yerr=list(zip(*ends, strict=True)),
                fmt=f"{mark}-",
                color=colour,
                label=label,
                elinewidth=0.8,
            )
        published(ax, *PAPER, "Li et al. 2018: 750")
        ax.set_ylim(0, None)
        plots.plain_log_ticks(ax)
        ax.set_xlabel("native parameters D")
        ax.set_ylabel("d_int at accuracy 0.90")
        ax.set_title("MNIST: widths 50 to 400, 1 to 3 layers")
        ax.legend(loc="lower left", ncols=2)
        numbers = {f"{width}x{depth}": answer(r) for (width, depth), r in sorted(results.items())}
        save(fig, "li_grid", {"ours": numbers, "published": {"200x2": PAPER[1]}})
