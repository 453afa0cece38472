"""Pictures of a table of methods: Axes in, Axes out."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from idim import plots
from idim.delta_tuning.labels import Named, label
from idim.delta_tuning.row import SHARE, MethodRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

COLOURS = {
    "full": plots.RED,
    "addition": plots.BLUE,
    "specification": plots.ORANGE,
    "reparameterisation": plots.GREEN,
    "combined": plots.GREY,
}
TOGETHER = "combined"
SHADES = ("#1a365d", "#4299e1", "#bee3f8")  # of forward, backward, optimizer
PARTS = ("forward_ms", "backward_ms", "optimizer_ms")
GREY_OF_CYCLE = 7  # of matplotlib's ten colours
LEAST = 1  # a method that trains nothing beside the head stands here on a logarithmic axis
Transfers = Mapping[str, Mapping[str, Mapping[str, float]]]


def scores(ax: Axes, rows: Sequence[MethodRow], *, chance: float, metric: str) -> Axes:
    """Draw the score of every method, mean and sd, against the numbers it trains beside the head."""
    shown = [row for row in rows if row.mean is not None]
    ax.set_xscale("log")
    for row in shown:
        ax.errorbar(
            _place(row), row.mean or 0.0, yerr=row.sd or 0.0, fmt="o", ms=6, color=colour(row), elinewidth=1.1,
            capsize=2, mfc=colour(row) if row.through else "white",
        )  # fmt: skip
    if np.isfinite(chance):
        ax.axhline(chance, color=plots.GREY, ls="--", lw=1)
        ax.annotate("chance", (1, chance), xycoords=("axes fraction", "data"), ha="right", va="bottom")
    places = [_place(row) for row in shown] or [LEAST]
    ax.set_xlim(min(places) / 3, max(places) * 5)
    bottom, top = ax.get_ylim()
    ax.set_ylim(bottom - 0.16 * (top - bottom), top)  # room for the legend
    ax.set_xlabel("numbers trained, the head apart")
    ax.set_ylabel(metric)
    label(ax, [Named(x=_place(row), y=row.mean or 0.0, name=row.method, colour=colour(row)) for row in shown])
    _legend(ax, shown)
    return ax


def _place(row: MethodRow) -> int:
    return max(LEAST, row.own or 0)


def colour(row: MethodRow) -> str:
    """Return the colour of a method's group; combinations have their own."""
    return COLOURS[kind(row)]


def kind(row: MethodRow) -> str:
    """Return the group of a method, or that it is a combination."""
    return TOGETHER if "+" in row.method else row.group


def _legend(ax: Axes, rows: Sequence[MethodRow]) -> None:
    from matplotlib.lines import Line2D

    kinds = dict.fromkeys(kind(row) for row in rows)
    marks = [Line2D([], [], marker="o", ls="", color=COLOURS[k], label=k) for k in kinds]
    if not all(row.through for row in rows):
        marks.append(Line2D([], [], marker="o", ls="", color=plots.GREY, mfc="white", label="no gradient through"))
    ax.legend(handles=marks, loc="lower left", ncols=len(marks))


def convergence(ax: Axes, rows: Sequence[MethodRow], *, beside: Sequence[MethodRow] = ()) -> Axes:
    """Draw the mean selection-split score against steps; a dot where 90 % of a method's own last score is reached.

    Args:
        ax: where to draw.
        rows: a line each.
        beside: lines in grey, to compare with.
    """
    shades = [f"C{i}" for i in range(10) if i != GREY_OF_CYCLE]
    shown = [row for row in rows if row.curve]
    lines = [(row, plots.GREY) for row in beside if row.curve]
    lines += [(row, shades[i % len(shades)]) for i, row in enumerate(shown)]
    for row, tint in lines:
        ax.plot(*zip(*row.curve, strict=True), color=tint, lw=1.3, alpha=0.85)
        if row.steps_to_90 is not None:
            ax.plot(row.steps_to_90, SHARE * row.curve[-1][1], "o", ms=4, color=tint)
    ends = [Named(x=row.curve[-1][0], y=row.curve[-1][1], name=row.method, colour=tint) for row, tint in lines]
    label(ax, ends, left=False)
    ax.set_xlabel("optimizer steps")
    return ax


def times(ax: Axes, rows: Sequence[MethodRow]) -> Axes:
    """Draw the parts of a step of every method, side by side."""
    shown = _costed(rows)
    left = np.zeros(len(shown))
    for part, shade in zip(PARTS, SHADES, strict=True):
        values = np.array([getattr(row.cost, part) for row in shown])
        ax.barh(range(len(shown)), values, left=left, color=shade, label=part.removesuffix("_ms"), height=0.7)
        left += values
    _names(ax, shown)
    ax.set_xlabel("milliseconds of a step, processor time of one thread")
    ax.legend(loc="lower right")
    return ax


def memory(ax: Axes, rows: Sequence[MethodRow]) -> Axes:
    """Draw the peak memory of training of every method."""
    shown = [row for row in _costed(rows) if row.cost is not None and row.cost.peak_mb is not None]
    values = [row.cost.peak_mb or 0.0 for row in shown if row.cost is not None]
    ax.barh(range(len(shown)), values, color=[colour(row) for row in shown], height=0.7)
    _names(ax, shown)
    ax.set_xlabel("peak memory of training beyond the libraries, MB")
    return ax


def _costed(rows: Sequence[MethodRow]) -> list[MethodRow]:
    return [row for row in rows if row.cost is not None and not row.cost.failed]


def _names(ax: Axes, rows: Sequence[MethodRow]) -> None:
    ax.set_yticks(range(len(rows)), [row.method for row in rows], fontsize=8)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)


def sheet(fig: Figure, rows: Sequence[MethodRow], *, title: str, chance: float, metric: str) -> None:
    """Draw score, convergence by group, time and memory on one figure; the last two only where costs were measured."""
    fig.suptitle(title, x=0.01, ha="left", weight="bold")
    costed, curved = bool(_costed(rows)), any(row.curve for row in rows)
    parts = fig.subfigures(1 + curved + costed, 1, height_ratios=[5, *[4] * curved, *[5] * costed], squeeze=False)[:, 0]
    scores(parts[0].subplots(), rows, chance=chance, metric=metric).set_title("score against numbers trained")
    if curved:
        _convergences(parts[1], rows)
    if costed:
        left, right = parts[-1].subplots(1, 2)
        times(left, rows).set_title("time of a step")
        memory(right, rows).set_title("memory")


def sheet_size(rows: Sequence[MethodRow]) -> tuple[float, float]:
    """Return a size for :func:`sheet`."""
    return 13.0, 6.0 + 4.6 * any(row.curve for row in rows) + (1.5 + 0.2 * len(_costed(rows))) * bool(_costed(rows))


def _convergences(fig: SubFigure, rows: Sequence[MethodRow]) -> None:
    """Draw the curves, a panel a group, full tuning and the probe in all of them."""
    beside = [row for row in rows if kind(row) == "full"]
    groups = [group for group in dict.fromkeys(map(kind, rows)) if group != "full"] or ["full"]
    axes = np.atleast_1d(fig.subplots(1, len(groups), sharey=True))
    for ax, group in zip(axes, groups, strict=True):
        same = [row for row in rows if kind(row) == group]
        convergence(ax, same, beside=beside if group != "full" else ()).set_title(group)
        ax.margins(x=0.02)
    axes[0].set_ylabel("convergence: score on the selection split")


def map_size(transfer: Transfers) -> tuple[float, float]:
    """Return a size for :func:`transfers`."""
    return 3.6 * len(transfer) + 1.2, 3.8


def transfers(fig: Figure, transfer: Transfers, *, metric: str) -> None:
    """Draw a heat map a method: scored on the columns what was tuned on the rows."""
    axes = np.atleast_1d(fig.subplots(1, len(transfer)))
    for ax, (method, by_source) in zip(axes, transfer.items(), strict=True):
        names = list(by_source)
        values = np.array([[by_source[source][target] for target in names] for source in names])
        ax.imshow(values, cmap="Blues", vmin=0.3, vmax=1.0)
        for i, j in np.ndindex(*values.shape):
            ax.text(
                j, i, f"{values[i, j]:.2f}", ha="center", va="center", color="white" if values[i, j] > 0.75 else "black"
            )
        ax.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=8)
        ax.set_yticks(range(len(names)), names if ax is axes[0] else [], fontsize=8)
        ax.grid(visible=False)
        ax.set_title(method)
    axes[0].set_ylabel("tuned on")
    axes[0].set_xlabel(f"scored on ({metric})")


def embedded(fig: Figure) -> str:
    """Return a figure as a data address for HTML."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", metadata={"Software": None})
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
