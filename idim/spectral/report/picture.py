"""Pictures of a spectrum report: singular values, energy, depth by module; and growth over steps.

Every function takes Axes or a figure and gives it back; nothing is computed here that a report does not hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from idim import plots
from idim.spectral.comparison.together import ModelComparison
from idim.spectral.judgement.matrix_report import MatrixReport
from idim.spectral.report.modules import KINDS, Module
from idim.spectral.report.summary import effective_share

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = (9.6, 7.2)
GROWTH_SIZE = (10.6, 3.2)
COMPARISON_SIZE = (9.6, 4.2)
COLOURS = (
    plots.BLUE, plots.ORANGE, plots.GREEN, plots.RED, "#6b46c1", "#0f766e", "#b7791f", "#97266d", plots.GREY, "#1a202c",
)  # fmt: skip
LOWEST = 1e-9  # of the largest singular value: below lies the arithmetic, not the change
SMALL = 16  # sides below this have effective ranks near full for want of room
WRITTEN = 16  # depths up to which cells of the heat map carry their number

Values = NDArray[np.float64]


def draw(figure: Figure, reports: Sequence[MatrixReport], modules: Mapping[str, Module], *, title: str = "") -> Figure:
    """Draw the three panels of a report on an empty figure."""
    axes = figure.subplot_mosaic([["values", "energy"], ["map", "map"]], height_ratios=[1.25, 1.0])
    changed = [r for r in reports if r.norm > 0 and r.singular_values]
    colours = colours_of({modules[r.name].kind for r in changed})
    singular_values(axes["values"], changed, modules, colours)
    energy(axes["energy"], changed, modules, colours)
    heat_map(axes["map"], changed, modules)
    if title:
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def colours_of(kinds: set[str]) -> dict[str, str]:
    """Return a colour for each kind, in the order of ``KINDS``."""
    ordered = [kind for kind in KINDS if kind in kinds]
    return {kind: COLOURS[i % len(COLOURS)] for i, kind in enumerate(ordered)}


def singular_values(
    ax: Axes, reports: Sequence[MatrixReport], modules: Mapping[str, Module], colours: Mapping[str, str]
) -> Axes:
    """Draw σ_i / σ_1 of every matrix against i, above what rounding and what the null alone would reach."""
    ax.set_title("singular values of the change")
    ax.set_xlabel("index i")
    ax.set_ylabel("σ$_i$ / σ$_1$")
    if not reports:
        return _nothing(ax)
    for report in reports:
        values = np.asarray(report.singular_values) / report.singular_values[0]
        seen = values > LOWEST
        index = np.arange(1, len(values) + 1)
        ax.plot(index[seen], values[seen], color=colours[modules[report.name].kind], lw=0.9, alpha=0.6)
    _band(ax, [(r.null.edge, r) for r in reports], plots.ORANGE, "independent entries")
    _band(ax, [(r.noise.edge, r) for r in reports], plots.GREY, "rounding")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(0.9, max(2, max(len(r.singular_values) for r in reports)) * 1.1)
    ax.set_ylim(None, 1.6)
    plots.plain_log_ticks(ax)
    ax.legend(loc="lower left", title="largest by chance alone", title_fontsize=8, fontsize=8)
    return ax


def energy(
    ax: Axes, reports: Sequence[MatrixReport], modules: Mapping[str, Module], colours: Mapping[str, str]
) -> Axes:
    """Draw the share of ``‖Δ‖²`` in the best approximation of rank r (Eckart & Young) against r / min(m, n)."""
    ax.set_title("energy of the best rank-r approximation")
    ax.set_xlabel("r / min(m, n)")
    ax.set_ylabel("share of ‖Δ‖²")
    if not reports:
        return _nothing(ax)
    for report in reports:
        values = np.asarray(report.singular_values)
        reached = np.concatenate([[0.0], np.cumsum(values**2) / report.norm**2])
        share = np.arange(len(reached)) / min(report.matrix)
        ax.plot(share, reached, color=colours[modules[report.name].kind], lw=0.9, alpha=0.6)
    ax.plot([0, 1], [0, 1], color="black", lw=1, ls=":")
    for level in (0.9, 0.99):
        ax.axhline(level, color=plots.GREY, lw=0.8, ls="--")
        ax.annotate(f" {level:.0%}", (1.0, level), va="center", fontsize=8, color=plots.GREY, annotation_clip=False)
    for kind, colour in colours.items():
        ax.plot([], [], color=colour, label=kind)
    ax.plot([], [], color="black", lw=1, ls=":", label="flat spectrum")
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1.02)
    ax.legend(loc="lower right", ncols=2, fontsize=8, handlelength=1.4, columnspacing=1.0)
    return ax


def heat_map(ax: Axes, reports: Sequence[MatrixReport], modules: Mapping[str, Module]) -> Axes:
    """Draw the mean effective rank over min(m, n) of each kind at each depth; depth "–" is outside blocks.

    Matrices with fewer than ``SMALL`` rows or columns have their number and no colour.
    """
    ax.set_title("effective rank / min(m, n)")
    ax.grid(visible=False)
    known = [r for r in reports if effective_share(r) is not None]
    if not known:
        return _nothing(ax)
    kinds = list(colours_of({modules[r.name].kind for r in known}))
    depths = sorted({modules[r.name].depth for r in known}, key=lambda depth: -1 if depth is None else depth)
    cells, large = (
        _means(members, modules, kinds, depths) for members in (known, [r for r in known if min(r.matrix) >= SMALL])
    )
    top = 1.0 if np.isnan(large).all() else float(np.nanmax(large))
    image = ax.imshow(large, aspect="auto", cmap="viridis", vmin=0, vmax=top)
    ax.set_yticks(range(len(kinds)), kinds)
    ax.set_xticks(range(len(depths)), ["–" if depth is None else str(depth) for depth in depths])
    ax.set_xlabel("depth")
    if len(depths) <= WRITTEN:
        _write(ax, cells, dark=large < 0.6 * top)
    ax.figure.colorbar(image, ax=ax, pad=0.01)
    return ax


def draw_growth(figure: Figure, frame: pd.DataFrame) -> Figure:
    """Draw rank, effective rank and relative change against the step, one line a kind of module, on a figure.

    Kinds whose matrices have fewer than ``SMALL`` rows or columns are left out: they are near full at once.
    """
    axes = figure.subplots(1, 3)
    large = frame[frame["full"] >= SMALL * frame["matrices"]]
    colours = colours_of(set(large["group"])) | {"all": "black"}
    panels = (
        ("rank", "rank / min(m, n)"),
        ("effective_share", "effective rank / min(m, n)"),
        ("relative", "‖Δ‖ / ‖W‖"),
    )
    for ax, (column, title) in zip(axes, panels, strict=True):
        ax.set_title(title)
        ax.set_xlabel("step")
        for group, colour in colours.items():
            rows = large[large["group"] == group]
            heights = rows[column].astype(float) / (rows["full"] if column == "rank" else 1)
            ax.plot(rows["step"], heights, "o-", ms=3, color=colour, lw=2.0 if group == "all" else 1.1, label=group)
        ax.set_ylim(0, None)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    return figure


def has_map(comparison: ModelComparison) -> bool:
    """Say whether a matrix has all the compared directions in both changes: then there is a map to draw."""
    both = [record.between for record in comparison.tensors]
    return any(min(c.rank_a, c.rank_b) == comparison.k for c in both if c.left is not None)


def draw_comparison(comparison: ModelComparison, figure: Figure) -> Figure:
    """Draw the maps of subspace similarity, left and right, on a figure."""
    left, right = figure.subplots(1, 2)
    comparison.plot(left, side="left")
    comparison.plot(right, side="right")
    return figure


def _band(ax: Axes, edges: Sequence[tuple[float, MatrixReport]], colour: str, label: str) -> None:
    """Draw the median over matrices, and the range of nine in ten, of where an edge lies relative to σ_1."""
    inside = [ratio for edge, report in edges if (ratio := edge / report.singular_values[0]) > LOWEST]
    if not inside:
        return
    ax.axhspan(*np.quantile(inside, (0.05, 0.95)), color=colour, alpha=0.13, lw=0)
    ax.axhline(median(inside), color=colour, lw=1.1, ls="--", label=label)


def _means(
    reports: Sequence[MatrixReport], modules: Mapping[str, Module], kinds: Sequence[str], depths: Sequence[int | None]
) -> Values:
    """Return the mean effective share by kind and depth, NaN where there is no matrix."""
    cells: dict[tuple[int, int], list[float]] = {}
    for report in reports:
        place = kinds.index(modules[report.name].kind), depths.index(modules[report.name].depth)
        cells.setdefault(place, []).append(effective_share(report) or 0.0)
    means = np.full((len(kinds), len(depths)), np.nan)
    for place, shares in cells.items():
        means[place] = fmean(shares)
    return means


def _write(ax: Axes, cells: Values, *, dark: NDArray[np.bool_]) -> None:
    for (i, j), value in np.ndenumerate(cells):
        if not np.isnan(value):
            colour = "white" if dark[i, j] else "black"
            ax.text(j, i, f"{value:.2f}".removeprefix("0"), ha="center", va="center", fontsize=8, color=colour)


def _nothing(ax: Axes) -> Axes:
    ax.text(0.5, 0.5, "nothing changed", ha="center", va="center", transform=ax.transAxes, color=plots.GREY)
    return ax
