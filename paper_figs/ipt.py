"""Recovered share of prompt tuning against d, on seen and unseen tasks (Qin et al. 2021, arXiv:2110.07867)."""

from __future__ import annotations

import json
from typing import Any

from matplotlib.axes import Axes

from idim import plots
from idim.learned.recovered import fraction
from paper_figs.common import results, save

KINDS = {
    "mlp": ("two-layer decoder", plots.GREEN, "s"),
    "linear": ("linear decoder", plots.BLUE, "o"),
    "pca": ("principal components", plots.ORANGE, "^"),
    "random": ("random, of prompts", plots.GREY, "v"),
    "weights": ("random, of weights", plots.RED, "x"),
}
PAPER = {"seen": {5: 0.87, 250: 0.97}, "unseen": {5: 0.65, 250: 0.83}}  # of the abstract: 100 seen tasks, 20 unseen
DODGE = 1.06  # between kinds at one d
WORDS = {"fraction": "score, share of prompts'", "gain": "gain, share of prompts'"}


def draw() -> None:
    """Draw score and gain over the head alone, and the values of the paper's abstract."""
    content = json.loads(results("ipt", "report.json", maker="ipt").read_text())
    numbers: dict[str, Any] = {"paper": PAPER}
    with plots.paper(4.4, wide=True) as fig:
        axes = fig.subplots(2, 2, sharex=True, sharey="row")
        for row, share in zip(axes, WORDS, strict=True):
            for ax, who in zip(row, PAPER, strict=True):
                numbers[f"{share}, {who}"] = _lines(ax, content["shares"], share, who)
            row[0].set_ylabel(WORDS[share])
        for ax, who in zip(axes[0], PAPER, strict=True):
            numbers[f"head alone, {who}"] = _references(ax, content["tasks"], who)
        for ax in axes[1]:
            ax.axhline(0, color="black", ls=":", lw=0.8)
            ax.set_ylim(-0.5, 1.75)
            ax.set_xlabel("d, numbers a task")
        fig.legend(*axes[0, 1].get_legend_handles_labels(), loc="outside lower center", ncols=4)
        save(fig, "ipt", numbers)


def _lines(ax: Axes, shares: Any, share: str, who: str) -> dict[str, Any]:
    """Draw one line a kind; return what is drawn."""
    found = {}
    for number, (kind, (label, colour, mark)) in enumerate(KINDS.items()):
        rows = {d: by[who][share] for d, by in shares.get(kind, {}).items() if by[who][share]["value"] is not None}
        if not rows:
            continue
        places = [int(d) * DODGE ** (number - 2) for d in rows]
        values = [row["value"] for row in rows.values()]
        ends = [[v - row["low"] for v, row in zip(values, rows.values(), strict=True)],
                [row["high"] - v for v, row in zip(values, rows.values(), strict=True)]]  # fmt: skip
        ax.errorbar(places, values, ends, fmt=f"{mark}-", color=colour, ms=3, lw=0.9, elinewidth=0.6, label=label)
        found[kind] = {d: [row["value"], row["low"], row["high"]] for d, row in rows.items()}
    ax.set_xscale("log")
    ax.axhline(1, color=plots.GREY, lw=0.7)
    return found


def _references(ax: Axes, rows: Any, who: str) -> float | None:
    """Draw the share of the head alone and the paper's values; return the former."""
    tasks = {name: row for name, row in rows.items() if row["seen"] == (who == "seen")}
    start = fraction({n: row["start"] for n, row in tasks.items()}, {n: row["prompt"] for n, row in tasks.items()})
    if start.value is not None:
        ax.axhline(start.value, color="black", ls=":", lw=0.8, label="head alone, d = 0")
    ax.plot(*zip(*PAPER[who].items(), strict=True), "*", color=plots.RED, ms=7, label="Qin et al. 2021")
    ax.set_title(f"{len(tasks)} {who} tasks")
    return start.value
