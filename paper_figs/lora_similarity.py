"""φ(i, j) of LoRA updates of two ranks and of two seeds (Hu et al. 2021, arXiv:2106.09685, figures 3 and 4)."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from idim import plots
from paper_figs.common import save, spectra

PAIRS = {"ranks": "rank 8 (i), rank 64 (j)", "seeds": "rank 64, two seeds"}
SIDES = {"left": "left: written to", "right": "right: read from"}
MODULES = ("query", "value")


def panel(ax: Axes, table: dict[str, Any]) -> AxesImage:
    """Draw one map; the axes count directions, not evenly."""
    image = ax.imshow(table["phi"], cmap="viridis", vmin=0, vmax=1, aspect="auto", origin="upper")
    for axis, places in ((ax.yaxis, table["i"]), (ax.xaxis, table["j"])):
        ticks = range(0, len(places), 1 if len(places) < 8 else 2)
        axis.set_ticks(ticks, [str(places[n]) for n in ticks])
    ax.grid(visible=False)
    whole, chance = table["phi"][-1][-1], table["random"][-1][-1]
    ax.set_xlabel(f"all: {whole:.2f}, random: {chance:.2f}")
    return image


def draw() -> None:
    """Draw a map for each side, pair of updates and kind of module."""
    content = spectra("similarity", "lora_similarity")["similarity"]
    columns = [(pair, module) for pair in PAIRS for module in MODULES]
    with plots.paper(3.3, wide=True) as fig:
        grid = fig.subplots(len(SIDES), len(columns))
        for row, side in zip(grid, SIDES, strict=True):
            for ax, (pair, module) in zip(row, columns, strict=True):
                image = panel(ax, content[pair][module][side])
            row[0].set_ylabel(f"{SIDES[side]}\nfirst i directions")
        for ax, (pair, module) in zip(grid[0], columns, strict=True):
            ax.set_title(f"{module}:\n{PAIRS[pair]}")
        fig.colorbar(image, ax=grid, label="φ(i, j), mean of six layers", fraction=0.03, pad=0.01)
        save(fig, "lora_similarity", content)
