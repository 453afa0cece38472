"""Marks that figures share: an interval on a row, a published value."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from idim import plots
from idim.dimension.result import DimensionResult


def interval(ax: Axes, row: float, result: DimensionResult, colour: str, edge: float = math.inf) -> None:
    """Draw an interval on a row, a dot where there is an estimate, and an arrow where it is open above."""
    lo, hi = result.ci95
    ax.plot([lo, min(hi, edge)], [row, row], color=colour, lw=4, alpha=0.4, solid_capstyle="butt")
    if hi > edge:
        ax.plot(edge, row, ">", color=colour, ms=5, alpha=0.8)
    if result.d_int is not None:
        ax.plot(result.d_int, row, "o", color=colour, ms=4)


def published(ax: Axes, x: float, y: float, label: str | None = None) -> None:
    """Mark a value of a paper with a star."""
    ax.plot(x, y, "*", color=plots.RED, ms=9, mec="white", mew=0.4, label=label, zorder=5)


def star(label: str) -> Line2D:
    """Return the entry of a legend for published values."""
    return Line2D([], [], marker="*", ls="", color=plots.RED, ms=8, mec="white", mew=0.4, label=label)
