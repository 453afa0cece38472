"""What lies in the top space of the Hessian along training (Gur-Ari, Roberts and Dyer 2018)."""

from __future__ import annotations

import json
from typing import Any

from matplotlib.axes import Axes

from idim import plots
from paper_figs.common import results, save

LINES = {
    "gradient": ("gradient", plots.BLUE, "o"),
    "kept": ("the next top space", plots.GREEN, "s"),
    "come": ("way from the start", plots.RED, "v"),
    "moved": ("way to the next mark", plots.ORANGE, "^"),
}


def draw() -> None:
    """Draw one line a seed and measure, and what a random direction has there."""
    content = json.loads(results("tiny_subspace.json", maker="tiny_subspace").read_text())
    chance, k = content["chance"]["mean"], content["k"]
    steps = [row["step"] for row in content["seeds"]["0"]["moments"]]
    numbers = {"chance": chance, **{name: _points(content, name) for name in LINES}}
    with plots.paper(2.9) as fig:
        ax = fig.subplots()
        for name, (label, colour, mark) in LINES.items():
            for seed, points in enumerate(numbers[name]):
                shown = label if not seed else None
                places = [(steps.index(step), share) for step, share in points]
                ax.plot(*zip(*places, strict=True), f"{mark}-", ms=3, lw=0.9, color=colour, label=shown)
        ax.axhline(chance, color=plots.GREY, ls="--", lw=1, label="random direction")
        _axes(ax, steps)
        ax.set_title(f"Inside the top {k} of {content['D']:,} directions")
        fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        save(fig, "tiny_subspace", numbers)


def _points(content: dict[str, Any], name: str) -> list[list[tuple[int, float]]]:
    """Return step and share for every seed."""
    seeds = content["seeds"].values()
    return [[(row["step"], row[name]) for row in seed["moments"] if name in row] for seed in seeds]


def _axes(ax: Axes, steps: list[int]) -> None:
    ax.set_xticks(range(len(steps)), [str(step) for step in steps])
    ax.set_yscale("log")
    ax.set_ylim(top=1.3)
    ax.set_xlabel("steps of SGD (not to scale)")
    ax.set_ylabel("share of the squared norm")
