"""Training again in directions of one training (T. Li et al. 2021), beside random ones and burn-in."""

from __future__ import annotations

import json
from typing import Any

from matplotlib.axes import Axes

from idim import plots
from paper_figs.common import DESK, results, save

FOLDER, MNIST, MINILM = "trajectory", "mnist_fc.json", "minilm_trec.json"
SHARE = 0.98  # of the score of full training
Points = list[tuple[int, float]]
STYLES = {
    "trajectory": (plots.BLUE, "o-"),
    "trajectory by layer": (plots.BLUE, "s"),
    "lottery": (plots.GREEN, "^"),
    "burn-in": (plots.ORANGE, "D"),
    "random": (plots.GREY, "v-"),
}
ASIDE = {"trajectory by layer": 0.85, "lottery": 1.18}  # marks at one d are drawn side by side


def draw() -> None:
    """Draw error against d: a panel a network, lines and marks for kinds of subspace, full training across."""
    panels = {"784-200-200-10, MNIST": _mnist(_read(MNIST, "trajectory"))}
    if (DESK.get().experiments / "results" / FOLDER / MINILM).is_file():
        panels["MiniLM, TREC"] = _minilm(_read(MINILM, "trajectory_minilm"))
    with plots.paper(3.0, wide=len(panels) > 1) as fig:
        for ax, (name, numbers) in zip(fig.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
            _panel(ax, numbers)
            ax.set_title(f"{name}, D = {numbers['D']:,}")
        legend = fig.axes[0].get_legend_handles_labels()
        fig.legend(*legend, loc="outside lower center", ncols=2 if len(panels) == 1 else 4)
        save(fig, "trajectory", panels)


def _read(name: str, maker: str) -> Any:
    return json.loads(results(FOLDER, name, maker=f"{maker} --work FOLDER").read_text())


def _mnist(content: dict[str, Any]) -> dict[str, Any]:
    """Return the plotted numbers: points (d, score) by kind of subspace."""
    seed = content["seeds"]["0"]
    first_order = {name: _points(seed[name]["adam"]) for name in STYLES if name in seed and name != "burn-in"}
    burnt = {"burn-in": _points(seed["burn-in"][-1:])}
    return {"D": content["about"]["D"], "full": seed["full"]["score"], "kinds": first_order | burnt}


def _minilm(content: dict[str, Any]) -> dict[str, Any]:
    kinds = {name: _points(content[name]) for name in ("trajectory", "random")}
    return {"D": content["about"]["D"], "full": content["full"]["score"], "kinds": kinds}


def _points(rows: list[dict[str, Any]]) -> Points:
    return [(row["d"], row["score"]) for row in rows]


def _panel(ax: Axes, numbers: dict[str, Any]) -> None:
    full, kinds = numbers["full"], numbers["kinds"]
    ax.axhline(100 * (1 - full), color="black", lw=1, label="all of D")
    ax.axhline(100 * (1 - SHARE * full), color="black", lw=0.8, ls=":", label=f"{SHARE:.0%} of that accuracy")
    for name, (colour, mark) in STYLES.items():
        places = [(d * ASIDE.get(name, 1), 100 * (1 - score)) for d, score in kinds.get(name, [])]
        if places:
            ax.plot(*zip(*places, strict=True), mark, color=colour, label=name)
    dims = [d for d, _ in kinds["trajectory"]]
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(dims, [str(d) for d in dims])
    ax.set_yticks([2, 5, 10, 20, 50, 100], ["2", "5", "10", "20", "50", "100"])
    ax.minorticks_off()
    ax.set_xlabel("d")
    ax.set_ylabel("test error, %")
