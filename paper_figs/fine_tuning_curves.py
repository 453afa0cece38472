"""Score against d of fine-tuning, task by task, plain and structure-aware (Aghajanyan et al. 2020, figure 1)."""

from __future__ import annotations

import math

from matplotlib.axes import Axes

from idim import plots
from idim.dimension.result import DimensionResult
from paper_figs.common import answer, save, stored
from paper_figs.fine_tuning import by_task

MOST = 4  # panels in a row
KINDS = {"DID": ("o", plots.BLUE), "SAID": ("s", plots.ORANGE)}


def panel(ax: Axes, results: dict[str, DimensionResult]) -> None:
    """Draw the runs and their means, the bar, and what full tuning reaches."""
    ax.set_xscale("log")
    for kind, result in results.items():
        mark, colour = KINDS[kind]
        runs = [(p.d, score) for p in result.curve for score in p.scores.values()]
        ax.plot([p.d for p in result.curve], [p.mean for p in result.curve], color=colour)
        ax.plot(*zip(*runs, strict=True), mark, ms=3, mfc="white", mec=colour, label=kind)
    plain = results["DID"]
    ax.axhline(plain.reference["mean"], color=plots.GREEN, label="full tuning")
    ax.axhline(plain.bar["value"], color=plots.RED, ls="--", lw=1, label="bar: 90 % of the gain over chance")


def draw() -> None:
    """Draw a panel for each task that there is."""
    plain, aware = (by_task(stored(name), "above") for name in ("text_tasks", "text_said"))
    tasks = {t: {"DID": r} | ({"SAID": aware[t]} if t in aware else {}) for t, r in plain.items()}
    rows = math.ceil(len(tasks) / MOST)
    columns = math.ceil(len(tasks) / rows)
    with plots.paper(1.7 * rows + 0.5, wide=True) as fig:
        axes = fig.subplots(rows, columns, squeeze=False).flat
        for ax, (task, results) in zip(axes, tasks.items(), strict=False):
            panel(ax, results)
            ax.set_title(task.replace("_", " "))
            ax.set_xlabel("d")
            ax.set_ylabel(results["DID"].metric)
        for ax in list(fig.axes)[len(tasks) :]:
            ax.set_visible(False)
        named = dict(pair for ax in fig.axes for pair in zip(*ax.get_legend_handles_labels()[::-1], strict=True))
        fig.legend(named.values(), named.keys(), loc="outside lower center", ncols=len(named))
        save(fig, "fine_tuning_curves", {t: {k: _numbers(r) for k, r in rs.items()} for t, rs in tasks.items()})


def _numbers(result: DimensionResult) -> dict[str, object]:
    runs = {p.d: list(p.scores.values()) for p in result.curve}
    return answer(result) | {"reference": result.reference["mean"], "runs": runs}
