"""Pictures of a table of methods: Axes in, Axes out."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from idim import plots
from idim.delta_tuning.row import MethodRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {
    "full": plots.RED,
    "addition": plots.BLUE,
    "specification": plots.ORANGE,
    "reparameterisation": plots.GREEN,
}
TOGETHER = plots.GREY
SHADES = ("#1a365d", "#4299e1", "#bee3f8")  # of forward, backward, optimizer
PARTS = ("forward_ms", "backward_ms", "optimizer_ms")
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
        ax.annotate(
            "chance", (1, chance), xycoords=("axes fraction", "data"), ha="right", va="bottom", color=plots.GREY
        )
    ax.set_xlabel("numbers trained, the head apart")
    ax.set_ylabel(metric)
    _label(ax, [(_place(row), row.mean or 0.0, row.method, colour(row)) for row in shown])
    _legend(ax, shown)
    return ax


def _place(row: MethodRow) -> int:
    return max(LEAST, row.own or 0)


def colour(row: MethodRow) -> str:
    """Return the colour of a method's group; combinations have their own."""
    return TOGETHER if "+" in row.method else COLOURS[row.group]


def _legend(ax: Axes, rows: Sequence[MethodRow]) -> None:
    from matplotlib.lines import Line2D

    groups = dict.fromkeys("combined" if "+" in row.method else row.group for row in rows)
    marks = [Line2D([], [], marker="o", ls="", color=COLOURS.get(group, TOGETHER), label=group) for group in groups]
    if not all(row.through for row in rows):
        marks.append(Line2D([], [], marker="o", ls="", color=plots.GREY, mfc="white", label="no gradient through"))
    ax.legend(handles=marks, loc="lower right")


def _label(ax: Axes, points: Sequence[tuple[float, float, str, str]]) -> None:
    """Write names beside points, each moved up or down until it is clear of those before."""
    taken: list[tuple[float, float, float, float]] = []
    figure = ax.get_figure(root=True)
    if figure is not None:
        figure.draw_without_rendering()  # the axes must know their size
    for x, y, name, tint in sorted(points, key=lambda point: (-point[1], point[0])):
        px, py = ax.transData.transform((x, y))
        width = 5.6 * len(name) * ax.figure.dpi / 100
        for step in range(40):
            shift = (step + 1) // 2 * (1 if step % 2 else -1) * 6.0
            box = (px + 6, py + shift - 6, px + 10 + width, py + shift + 6)
            if all(box[2] < t[0] or box[0] > t[2] or box[3] < t[1] or box[1] > t[3] for t in taken):
                break
        taken.append(box)
        scale = 72 / ax.figure.dpi
        ax.annotate(
            name, (x, y), xytext=(7 * scale, shift * scale), textcoords="offset points", va="center", fontsize=8,
            color=tint, arrowprops={"arrowstyle": "-", "lw": 0.4, "color": tint} if abs(shift) > 8 else None,
        )  # fmt: skip


def convergence(ax: Axes, rows: Sequence[MethodRow]) -> Axes:
    """Draw the mean selection-split score against steps; a dot where 90 % of a method's own last score is reached."""
    for row in (row for row in rows if row.curve):
        ax.plot(*zip(*row.curve, strict=True), color=colour(row), lw=1.1, alpha=0.75)
        if row.steps_to_90 is not None:
            ax.plot(row.steps_to_90, 0.9 * row.curve[-1][1], "o", ms=4, color=colour(row))
    ends = [(row.curve[-1][0], row.curve[-1][1], row.method, colour(row)) for row in rows if row.curve]
    if ends:
        ax.set_xlim(right=1.3 * ends[0][0])
        _label(ax, ends)
    ax.set_xlabel("optimizer steps")
    ax.set_ylabel("score on the selection split")
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
    ax.set_xlabel("milliseconds of a step, one thread")
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
    """Draw score, convergence, time and memory on one figure; the lower two only where costs were measured."""
    fig.suptitle(title, x=0.01, ha="left", weight="bold")
    if not _costed(rows):
        left, right = fig.subplots(1, 2)
    else:
        ((left, right), (low, lower)) = fig.subplots(2, 2)
        times(low, rows).set_title("time of a step")
        memory(lower, rows).set_title("memory")
    scores(left, rows, chance=chance, metric=metric).set_title("score against numbers trained")
    convergence(right, rows).set_title("convergence")


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
