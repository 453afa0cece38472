"""What order in pixels gains and what labels without order cost (Li et al. 2018, arXiv:1804.08838, section 3.2, S5)."""

from __future__ import annotations

from matplotlib.axes import Axes

from idim import plots
from idim.dimension.result import DimensionResult
from paper_figs.common import answer, save, stored
from paper_figs.marks import interval, published, star

PAPER = {"FC": 750, "FC, pixels shuffled": 750, "LeNet": 290, "LeNet, pixels shuffled": 1400}
ROWS = {250: plots.GREEN, 500: plots.ORANGE, 1000: plots.BLUE}
EDGE = 4000  # of the figure: the largest d that was tried
MARKS = dict(zip(ROWS, "^so", strict=True))


def draw() -> None:
    """Draw intervals of d_int with and without order of pixels, and the share of labels known by heart."""
    shuffled = stored("li_shuffled")
    pixels = {
        "FC": stored("mnist_fc")["hadamard"],
        "FC, pixels shuffled": shuffled["fc-pixels"],
        "LeNet": stored("mnist_lenet")["hadamard"],
        "LeNet, pixels shuffled": shuffled["lenet-pixels"],
    }
    labels = {rows: shuffled[f"labels-{rows}"] for rows in ROWS}
    with plots.paper(2.3, wide=True) as fig:
        left, right = fig.subplots(1, 2)
        _intervals(left, pixels)
        _by_heart(right, labels)
        ours = {name: answer(r) for name, r in pixels.items()}
        memory = {rows: answer(r) | {"curve": {p.d: p.mean for p in r.curve}} for rows, r in labels.items()}
        save(fig, "li_shuffled", {"pixels": ours, "published": PAPER, "labels": memory})


def _intervals(ax: Axes, pixels: dict[str, DimensionResult]) -> None:
    for row, (name, result) in enumerate(pixels.items()):
        interval(ax, row, result, plots.BLUE if "shuffled" in name else plots.GREY, edge=EDGE)
        published(ax, PAPER[name], row + 0.28)
    ax.set_yticks(range(len(pixels)), list(pixels))
    ax.set_ylim(len(pixels) - 0.5, -0.6)
    ax.set_xlim(0, 1.05 * EDGE)
    ax.set_xlabel("d_int at accuracy 0.90")
    ax.set_title("Shuffled pixels")
    ax.legend(handles=[star("Li et al. 2018")], loc="upper right")


def _by_heart(ax: Axes, labels: dict[int, DimensionResult]) -> None:
    ax.set_xscale("log")
    for rows, result in labels.items():
        points = [(p.d, p.mean) for p in result.curve]
        told = "not reached" if result.d_int is None else f"{result.d_int:,}"
        ax.plot(*zip(*points, strict=True), f"{MARKS[rows]}-", color=ROWS[rows], label=f"{rows:,} rows: {told}")
    ax.axhline(0.9, color=plots.RED, ls="--", lw=1)
    ax.set_xlabel("subspace coordinates d")
    ax.set_ylabel("rows known by heart")
    ax.set_title("Shuffled labels")
    plots.plain_log_ticks(ax)
    ax.set_xlim(right=10_000)  # room for the legend
    ax.legend(loc="lower right", title="d_int")
