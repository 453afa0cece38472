"""The picture of φ(i, j): Axes in, Axes out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idim import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

MOST_LABELS = 12  # of an axis
WRITTEN = 8  # sides up to which every value is written into its cell


def similarity_map(ax: Axes, table: ArrayLike, *, chance: float | None = None) -> Axes:
    """Draw a table of φ as a map from 0 (orthogonal) to 1 (one space inside the other).

    Args:
        ax: where to draw; i goes down, j to the right.
        table: [i, j], values in [0, 1].
        chance: φ of random spaces at the last i and j; marked on the colour bar.
    """
    import numpy as np

    values = np.asarray(table, dtype=float)
    image = ax.imshow(values, cmap="viridis", vmin=0.0, vmax=1.0, aspect="equal")
    bar = ax.figure.colorbar(image, ax=ax, fraction=0.046, pad=0.03, label="φ(i, j)")
    if chance is not None:
        bar.ax.axhline(chance, color=plots.RED, lw=2)
        up = chance < 0.5
        bar.ax.annotate(
            f"random {chance:.2g}", (0.5, chance), xycoords=("axes fraction", "data"), xytext=(0, 5 if up else -5),
            textcoords="offset points", ha="center", va="bottom" if up else "top", rotation=90, fontsize=7,
            color="white" if up else "black",
        )  # fmt: skip
    for axis, size in ((ax.yaxis, values.shape[0]), (ax.xaxis, values.shape[1])):
        step = max(1, -(-size // MOST_LABELS))
        axis.set_ticks(range(step - 1, size, step), [str(i + 1) for i in range(step - 1, size, step)])
    if max(values.shape) <= WRITTEN:
        _write(ax, values.tolist())
    ax.grid(visible=False)
    ax.set_xlabel("first j directions of the other")
    ax.set_ylabel("first i directions")
    return ax


def _write(ax: Axes, values: list[list[float]]) -> None:
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            shade = "white" if value < 0.6 else "black"
            ax.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=7, color=shade)
