"""Subspaces of every kind at equal d, on the task they were found for and on unseen ones."""

from __future__ import annotations

import json
from typing import Any

from matplotlib.axes import Axes

from idim import plots
from paper_figs.common import results, save

TITLES = {"images": "the task itself", "more": "unseen: more rows", "turned": "unseen: turned by a quarter"}
STYLES = {
    "hadamard": (plots.GREY, "o-"),
    "said": (plots.GREY, "s--"),
    "burn-in": (plots.ORANGE, "D-"),
    "lottery": (plots.BLUE, "^--"),
    "trajectory": (plots.BLUE, "o-"),
    "hessian": (plots.GREEN, "v-"),
    "gradients": (plots.GREEN, "P--"),
    "deltas": (plots.RED, "X-"),
}


def draw() -> None:
    """Draw score against d, a panel a task, a line a kind; the mean over seeds where a kind has several."""
    content = json.loads(results("compare", "report.json", maker="compare").read_text())
    tasks = [content["task"], *content["unseen"]]
    panels = {task.rpartition("/")[2]: _numbers(content, task) for task in tasks}
    with plots.paper(2.9, wide=True) as fig:
        axes = fig.subplots(1, len(panels), sharey=True)
        for ax, (name, numbers) in zip(axes, panels.items(), strict=True):
            _panel(ax, numbers, content["dims"])
            ax.set_title(TITLES[name])
        axes[0].set_ylabel("test accuracy")
        fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
        save(fig, "compare", panels)


def _numbers(content: dict[str, Any], task: str) -> dict[str, Any]:
    kinds = {row["kind"]: _points(row["results"][task]) for row in content["rows"] if task in row["results"]}
    return {"full": content["full"][task]["mean"], "bar": content["bar"][task]["value"], "kinds": kinds}


def _points(result: dict[str, Any]) -> list[tuple[int, float]]:
    return [(point["d"], sum(point["scores"].values()) / len(point["scores"])) for point in result["curve"]]


def _panel(ax: Axes, numbers: dict[str, Any], dims: list[int]) -> None:
    ax.axhline(numbers["full"], color="black", lw=1, label="all of D")
    ax.axhline(numbers["bar"], color="black", lw=0.8, ls=":", label="bar of d_int")
    for kind, points in numbers["kinds"].items():
        colour, mark = STYLES[kind]
        ax.plot(*zip(*points, strict=True), mark, color=colour, label=kind, ms=3.5)
    ax.set_xscale("log")
    ax.set_xticks(dims, [str(d) for d in dims])
    ax.minorticks_off()
    ax.set_ylim(0, 1)
    ax.set_xlabel("d")
