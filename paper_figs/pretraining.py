"""Score against d of MiniLM as it was pretrained and with random weights, with the bar that both are held to."""

from __future__ import annotations

import math

from matplotlib.axes import Axes

from idim import plots
from idim.dimension.result import DimensionResult
from paper_figs.common import answer, save, stored
from paper_figs.fine_tuning import by_task

KINDS = {"pretrained": plots.BLUE, "random weights": plots.ORANGE}


def panel(ax: Axes, task: str, results: dict[str, DimensionResult]) -> None:
    """Draw the runs of one task, the line through their means, the bar and the intervals."""
    ax.set_xscale("log")
    edge = max(p.d for r in results.values() for p in r.curve)
    for label, result in results.items():
        points = [(p.d, p.mean) for p in result.curve]
        runs = [(p.d, score) for p in result.curve for score in p.scores.values()]
        ax.plot(*zip(*points, strict=True), color=KINDS[label])
        ax.plot(*zip(*runs, strict=True), "o", ms=3, mfc="white", mec=KINDS[label], label=label, zorder=3)
        if result.d_int is not None:
            ax.axvspan(result.ci95[0], min(result.ci95[1], edge), color=KINDS[label], alpha=0.18, lw=0)
    pretrained = results["pretrained"]
    ax.axhline(pretrained.bar["value"], color=plots.RED, ls="--", lw=1.2, label="bar")
    ax.axhline(pretrained.reference["mean"], color=plots.GREEN, lw=1.2, label="pretrained, full tuning")
    ax.set_title(task.replace("_", " "))
    ax.set_xlabel("d")


def draw() -> None:
    """Draw one panel for each task that has both."""
    pretrained, scratch = by_task(stored("text_tasks"), "above"), by_task(stored("text_scratch"), "same")
    pairs = {t: dict(zip(KINDS, (pretrained[t], scratch[t]), strict=True)) for t in scratch if t in pretrained}
    with plots.paper(2.7 if len(pairs) < 5 else 4.6, wide=len(pairs) > 1) as fig:
        rows = 1 if len(pairs) < 5 else 2
        axes = fig.subplots(rows, math.ceil(len(pairs) / rows), squeeze=False).flatten()
        for ax, (task, results) in zip(axes, pairs.items(), strict=False):
            panel(ax, task, results)
        axes[0].set_ylabel("accuracy, report split")
        fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
        save(fig, "pretraining", {t: {label: answer(r) for label, r in rs.items()} for t, rs in pairs.items()})
