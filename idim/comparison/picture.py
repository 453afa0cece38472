"""The picture of a comparison: Axes in, Axes out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from idim import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from idim.comparison.report import CompareReport

MARKS = "osD^vP*X<>"
COLOURS = {
    "hadamard": plots.GREY,
    "said": plots.GREY,
    "burn-in": plots.ORANGE,
    "trajectory": plots.BLUE,
    "lottery": plots.BLUE,
    "hessian": plots.GREEN,
    "gauss-newton": plots.GREEN,
    "gradients": plots.GREEN,
    "deltas": plots.RED,
}
DASHED = ("said", "lottery", "gauss-newton", "gradients")
OTHERS = "#6b4c9a"


def curves(
    ax: Axes, lines: Mapping[str, Mapping[int, float]], *, full: float | None, bar: float, metric: str, title: str
) -> Axes:
    """Draw score against d, a line a subspace, with full training and the bar of d_int across.

    Args:
        ax: where to draw.
        lines: by name, score by d.
        full: mean score of full training; None where it was not trained.
        bar: the score behind d_int.
        metric: what is scored.
        title: of the panel.
    """
    ax.set_xscale("log")
    if full is not None:
        ax.axhline(full, color="black", lw=1)
        ax.annotate("all of D", (0, full), xycoords=("axes fraction", "data"), va="bottom", fontsize=8)
    ax.axhline(bar, color="black", lw=0.8, ls=":")
    shown = {name: points for name, points in lines.items() if points}
    for number, (name, points) in enumerate(shown.items()):
        style: dict[str, Any] = {"color": COLOURS.get(name, OTHERS), "ls": "--" if name in DASHED else "-"}
        ax.plot(
            *zip(*sorted(points.items()), strict=True), marker=MARKS[number % len(MARKS)], ms=5, label=name, **style
        )
    dims = sorted({d for points in shown.values() for d in points})
    ax.set_xticks(dims, [f"{d:,}" for d in dims])
    ax.minorticks_off()
    ax.set_xlabel("d")
    ax.set_ylabel(f"{metric} on the report split")
    ax.set_title(title)
    return ax


def sheet(fig: Figure, report: CompareReport) -> None:
    """Draw a panel a task and one legend below them."""
    for ax, task in zip(fig.subplots(1, len(report.tasks), squeeze=False)[0], report.tasks, strict=True):
        report.plot(ax, task=task)
        if task != report.task:
            ax.set_title(f"unseen: {short(task)}")
    fig.legend(*fig.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)


def short(task: str) -> str:
    """Return the name of a task without the folder it lies in.

    >>> short("idx:some/where/turned"), short("digits")
    ('turned', 'digits')
    """
    return task.rpartition("/")[2]
