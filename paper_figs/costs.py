"""What a step costs by method, batch size and precision: time and peak memory (Ding et al. 2022, figures of memory)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from idim import plots
from idim.delta_tuning.cost import PRECISIONS, Cost
from paper_figs.common import report, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TABLE = "minilm_trec_costs"
METHODS = {
    "full": ("o", plots.BLUE),
    "did": ("s", plots.ORANGE),
    "lora": ("v", plots.GREEN),
    "adapter": ("^", plots.RED),
    "bitfit": ("D", plots.GREY),
    "ladder": ("<", "black"),
}
Figure = Callable[[Cost], float | None]
ROWS: dict[str, Figure] = {"step, ms": lambda cost: cost.step_ms, "peak memory, MB": lambda cost: cost.peak_mb}


def draw() -> None:
    """Draw time above memory, a column for each precision."""
    cells = [cost for cost in report(TABLE).costs if cost.method in METHODS and not cost.failed]
    with plots.paper(4.2, wide=True) as fig:
        grid = fig.subplots(len(ROWS), len(PRECISIONS), sharex=True, sharey="row")
        for row, (label, value) in zip(grid, ROWS.items(), strict=True):
            row[0].set_ylabel(label)
            for ax, precision in zip(row, PRECISIONS, strict=True):
                _lines(ax, [cost for cost in cells if cost.precision == precision], value)
        for ax, precision in zip(grid[0], PRECISIONS, strict=True):
            ax.set_title(precision)
        for ax in grid[-1]:
            ax.set_xlabel("batch, texts")
        fig.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=len(METHODS))
        save(fig, "methods_costs", [cost.to_json() for cost in cells])


def _lines(ax: Axes, cells: list[Cost], value: Figure) -> None:
    for method, (mark, colour) in METHODS.items():
        mine = sorted((cost for cost in cells if cost.method == method), key=lambda cost: cost.batch)
        if mine:
            ax.plot(
                [cost.batch for cost in mine], [value(cost) for cost in mine], f"{mark}-", color=colour, label=method
            )
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(sorted({cost.batch for cost in cells}), labels=[str(b) for b in sorted({c.batch for c in cells})])
