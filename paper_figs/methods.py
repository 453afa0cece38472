"""Ways of tuning side by side: their table as pictures, combinations, sizes of the network, transfer between tasks."""

from __future__ import annotations

import math
from typing import Any

from idim import plots
from idim.delta_tuning import picture
from idim.delta_tuning.row import MethodRow
from idim.delta_tuning.table import record
from paper_figs.common import report, save

SIZES = {"minilm2_trec": 2, "minilm4_trec": 4, "minilm_trec": 6}
SIZED = ("full", "adapter", "bitfit", "lora", "probe")
MARKS = "osv^D"
INKS = (plots.BLUE, plots.ORANGE, plots.GREEN, plots.RED, plots.GREY)


def draw(label: str, name: str) -> None:
    """Draw the score of every method of a table against the numbers it trains."""
    found = report(label)
    with plots.paper(4.0, wide=True) as fig:
        ax = fig.subplots()
        where = f"{found.metric}, {found.split['report']} split (chance {found.chance:.2f})"
        picture.scores(ax, found.rows, chance=math.nan, metric=where)
        ax.set_title(found.title)
        save(fig, name, {row.method: record(row) for row in found.rows})


def draw_convergence(label: str, name: str) -> None:
    """Draw the score of every method against steps, a panel for each group."""
    found = report(label)
    beside = [row for row in found.rows if picture.kind(row) == "full"]
    groups = [kind for kind in picture.COLOURS if kind != "full" and any(picture.kind(r) == kind for r in found.rows)]
    with plots.paper(3.6, wide=True) as fig:
        for ax, group in zip(fig.subplots(1, len(groups), sharey=True), groups, strict=True):
            mine = [row for row in found.rows if picture.kind(row) == group]
            picture.convergence(ax, mine, beside=beside).set_title(group)
        fig.axes[0].set_ylabel("score, selection split")
        curves = {row.method: {"curve": row.curve, "steps_to_90": row.steps_to_90} for row in found.rows}
        save(fig, name, curves)


def draw_together() -> None:
    """Draw adapter, BitFit and prompt alone and together."""
    found = report("together")
    rows = sorted((row for row in found.rows if row.mean is not None), key=lambda row: row.method.count("+"))
    one = len(found.seeds) == 1
    with plots.paper(2.4) as fig:
        ax = fig.subplots()
        for place, row in enumerate(rows):
            ax.errorbar(row.mean or 0, place, xerr=row.sd or 0, fmt="o", color=picture.colour(row))
        ax.set_yticks(range(len(rows)), [row.method for row in rows])
        ax.invert_yaxis()
        ax.set_xlabel(f"{found.metric}, one seed" if one else f"{found.metric}, mean ± sd of {len(found.seeds)} seeds")
        ax.set_title(f"{found.model} on {found.task}")
        save(fig, "methods_together", {row.method: numbers(row) for row in rows})


def draw_sizes() -> None:
    """Draw the score of some methods against the number of layers that are kept."""
    found = {layers: {row.method: row for row in report(label).rows} for label, layers in SIZES.items()}
    with plots.paper(2.5) as fig:
        ax = fig.subplots()
        for i, method in enumerate(SIZED):
            rows = {layers: rows[method] for layers, rows in found.items()}
            means = [row.mean or 0 for row in rows.values()]
            places = [layers + 0.05 * (i - len(SIZED) // 2) for layers in rows]
            spread = [row.sd or 0 for row in rows.values()]
            ax.errorbar(places, means, yerr=spread, fmt=f"{MARKS[i]}-", color=INKS[i], label=method)
        ax.set_xticks(list(found))
        ax.set_xlabel("layers of MiniLM that are kept")
        ax.set_ylabel("accuracy on the report split")
        ax.set_title("trec: methods across sizes")
        ax.legend(loc="lower right")
        save(fig, "methods_sizes", {n: {m: numbers(rows[m]) for m in SIZED} for n, rows in found.items()})


def draw_transfer() -> None:
    """Draw what was tuned on one task, scored on the others."""
    found = report("transfer")
    moved = found.transfer or {}
    with plots.paper(2.45, wide=True) as fig:
        picture.transfers(fig, moved, metric=found.metric)
        save(fig, "methods_transfer", moved)


def numbers(row: MethodRow) -> dict[str, Any]:
    """Return the plotted numbers of a row."""
    return {"mean": row.mean, "sd": row.sd, "trained": row.own}
