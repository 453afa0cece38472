"""Axes in, Axes out; one style for every picture, and its form for the columns of a paper.

The five colours stay apart for readers who see no red, no green or no blue: 18 units of CIE L*a*b* or more between any
two of them in the model of Machado, Oliveira and Fernandes 2009, "A Physiologically-based Model for Simulation of Color
Vision Deficiency".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from idim.files import replace_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, RED, GREY = "#1f5fa8", "#e69f00", "#009e73", "#b3341f", "#718096"
COLUMN, PAGE = 3.3, 6.9  # inches: one column of a paper, and both

STYLE: dict[str, Any] = {
    "figure.figsize": (6.4, 4.0),
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.framealpha": 0.93,
    "legend.edgecolor": "none",
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "pdf.fonttype": 42,
    "svg.hashsalt": "idim",
}
PAPER: dict[str, Any] = STYLE | {
    "savefig.dpi": 300,
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "axes.linewidth": 0.7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "legend.handlelength": 1.6,
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "errorbar.capsize": 2,
}


@contextmanager
def canvas(style: Mapping[str, Any] = STYLE, **size: Any) -> Iterator[Figure]:
    """Yield an empty figure in the project's style, off screen."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(dict(style)):  # type: ignore[arg-type]  # the stubs list every key as a literal
        fig = Figure(layout="constrained", **size)
        FigureCanvasAgg(fig)
        yield fig


def paper(height: float, *, wide: bool = False) -> AbstractContextManager[Figure]:
    """Return the context of an empty figure as it will be printed: one column of a paper wide, or both."""
    return canvas(PAPER, figsize=(PAGE if wide else COLUMN, height))


@contextmanager
def figure(**size: Any) -> Iterator[tuple[Figure, Axes]]:
    """Yield a figure with one Axes in the project's style, off screen."""
    with canvas(**size) as fig:
        yield fig, fig.subplots()


def save(fig: Figure, path: Path) -> None:
    """Write a picture under its name only when it is whole; the same figure gives the same bytes."""
    kind = path.suffix.lstrip(".")
    metadata = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Producer": None, "Creator": None}}
    with replace_file(path) as temporary:
        fig.savefig(temporary, format=kind, metadata=metadata.get(kind))


def dimension_curve(
    ax: Axes,
    *,
    scores: Mapping[int, Sequence[float]],
    fit: tuple[Sequence[float], Sequence[float]] | None,
    bar: float,
    bar_label: str,
    interval: tuple[float, float] | None,
    d_int: int | None,
    reference: tuple[float, float, float] | None = None,
    metric: str = "score",
    falling: bool = False,
) -> Axes:
    """Draw the score of every run against d, the fitted curve, the bar, the interval and d_int.

    Args:
        ax: where to draw; d on a logarithmic axis.
        scores: for each d, the score of every seed.
        fit: d and score of the fitted monotone curve.
        bar: the score to reach, with ``bar_label`` beside it.
        interval: the 95 % interval of d_int; an infinite end is drawn to the edge.
        d_int: the estimate, or None when the bar was not reached.
        reference: mean of full training, and the mean less and plus one standard deviation.
        metric: the name of the vertical axis.
        falling: lower is better, on a logarithmic axis.
    """
    ax.set_xscale("log")
    low, high = min(scores) / 1.4, max(scores) * 1.4
    ax.set_xlim(low, high)
    if interval is not None:
        ax.axvspan(max(interval[0], low), min(interval[1], high), color=ORANGE, alpha=0.18, lw=0, label="95 % interval")
    if reference is not None:
        mean, *band = reference
        ax.axhspan(*band, color=GREEN, alpha=0.15, lw=0)
        ax.axhline(mean, color=GREEN, lw=1.2, label="full training (mean ± sd)")
    ax.axhline(bar, color=RED, lw=1.2, ls="--", label=bar_label)
    if fit is not None:
        ax.plot(*fit, color=BLUE, label="monotone fit")
    xs = [d for d, values in sorted(scores.items()) for _ in values]
    ys = [score for _, values in sorted(scores.items()) for score in values]
    ax.plot(xs, ys, "o", ms=4.5, mfc="white", mec=BLUE, mew=1.1, label="one run", zorder=3)
    if d_int is not None:
        ax.axvline(d_int, color=ORANGE, lw=1.6)
        ax.annotate(
            f"d_int = {d_int:,}", (d_int, 0.5), xycoords=("data", "axes fraction"), ha="right",
            xytext=(-7, 0), textcoords="offset points", color=ORANGE, weight="bold",
        )  # fmt: skip
    ax.set_xlabel("subspace coordinates d")
    ax.set_ylabel(metric)
    plain_log_ticks(ax)
    if falling:
        _falling_axis(ax)
    ax.legend(loc="upper right" if falling else "lower right").set_zorder(4)
    return ax


def _falling_axis(ax: Axes) -> None:
    """Make the vertical axis logarithmic with plain numbers: some six over less than a decade, else 1, 2 and 5."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    ax.set_yscale("log")
    low, high = ax.get_ylim()
    ax.yaxis.set_major_locator(MaxNLocator(6) if high < 10 * low else LogLocator(subs=(1.0, 2.0, 5.0), numticks=99))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter("{x:g}")


def plain_log_ticks(ax: Axes) -> None:
    """Label 1, 2 and 5 of each decade as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=99))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def bound_curve(
    ax: Axes,
    *,
    d: Sequence[int],
    bound: Sequence[float],
    train: Sequence[float],
    test: Sequence[float],
    guess: float,
) -> Axes:
    """Draw shares of wrong answers, and what bounds them, against the dimension of the subspace; both axes logarithmic.

    Args:
        ax: where to draw.
        d: dimensions, ascending.
        bound: upper bound on the risk.
        train: share of training rows that are answered wrongly.
        test: the same for rows of the report split.
        guess: risk of guessing, from which on a bound says nothing.
    """
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.axhline(guess, color=GREY, lw=1, ls="--", label="guessing")
    ax.plot(d, bound, "o-", color=BLUE, label="bound")
    ax.plot(d, test, "s-", color=ORANGE, label="test rows")
    ax.plot(d, train, "v-", color=GREEN, label="training rows")
    best = min(range(len(d)), key=bound.__getitem__)
    ax.annotate(
        f"{100 * bound[best]:.1f} %", (d[best], bound[best]), ha="center", xytext=(0, 6), textcoords="offset points",
        color=BLUE, weight="bold",
    )  # fmt: skip
    ax.set_xlabel("subspace coordinates d")
    ax.set_ylabel("share of wrong answers")
    plain_log_ticks(ax)
    return ax
