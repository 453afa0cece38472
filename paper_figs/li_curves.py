"""Score against d on MNIST, under our protocol and theirs (Li et al. 2018, arXiv:1804.08838, figure 2)."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes

from idim import plots
from idim.dimension.result import DimensionResult
from paper_figs.common import answer, save, stored
from paper_figs.marks import published

NETWORKS = {"fc": ("mnist_fc", "784-200-200-10", 750), "lenet": ("mnist_lenet", "LeNet", 290)}
SOURCE = "Li et al. 2018"


def panel(ax: Axes, ours: DimensionResult, theirs: DimensionResult, full: DimensionResult, paper: int) -> None:
    """Draw the runs of both protocols, the fit, the bar, the interval and full training."""
    ax.set_xscale("log")
    ax.axvspan(*ours.ci95, color=plots.BLUE, alpha=0.18, lw=0)
    ax.axhline(full.reference["mean"], color=plots.GREEN, label="full training")
    ax.axhline(ours.bar["value"], color=plots.GREY, ls="--", lw=1, label="bar 0.90")
    ax.plot(*zip(*ours.fit, strict=True), color=plots.BLUE)
    for result, mark, colour, label in (
        (ours, "o", plots.BLUE, "ours: 1,500 steps, tuned rate"),
        (theirs, "s", plots.ORANGE, "their protocol: 46,900 steps"),
    ):
        runs = [(p.d, score) for p in result.curve for score in p.scores.values()]
        ax.plot(*zip(*runs, strict=True), mark, ms=3.5, mfc="white", mec=colour, label=label)
    published(ax, paper, ours.bar["value"], f"d_int, {SOURCE}")
    ax.set_xlabel("subspace coordinates d")
    ax.set_ylim(0.45, 1.01)
    plots.plain_log_ticks(ax)


def draw() -> None:
    """Draw a panel for each network."""
    theirs, full = stored("li2018"), stored("li_baseline")
    numbers: dict[str, Any] = {}
    with plots.paper(2.6, wide=True) as fig:
        axes = fig.subplots(1, 2, sharey=True)
        for ax, (name, (experiment, title, paper)) in zip(axes, NETWORKS.items(), strict=True):
            ours = stored(experiment)["hadamard"]
            panel(ax, ours, theirs[name], full[name], paper)
            ax.set_title(f"{title}: d_int = {ours.d_int}, published {paper}")
            numbers[name] = {
                "ours": answer(ours) | {"runs": _runs(ours)},
                "their_protocol": answer(theirs[name]) | {"runs": _runs(theirs[name])},
                "full": full[name].reference["mean"],
                "published": {SOURCE: paper},
            }
        axes[0].set_ylabel("accuracy on the test images")
        fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
        save(fig, "li_curves", numbers)


def _runs(result: DimensionResult) -> dict[int, list[float]]:
    return {p.d: list(p.scores.values()) for p in result.curve}
