"""Ways of tuning side by side: their table as pictures, combinations, sizes of the network, transfer between tasks."""

from __future__ import annotations

from typing import Any

from idim import plots
from idim.delta_tuning import picture
from idim.delta_tuning.report import MethodsReport
from idim.delta_tuning.row import MethodRow
from idim.delta_tuning.table import record
from paper_figs.common import RESULTS, save

TABLES = {"minilm_trec_all": "methods", "resnet20_digits": "methods_vision"}
SIZES = {"minilm2_trec": 2, "minilm4_trec": 4, "minilm_trec": 6}
SIZED = ("full", "adapter", "bitfit", "lora", "probe")


def report(label: str) -> MethodsReport:
    """Return a stored table."""
    return MethodsReport.load(RESULTS / "methods" / label)


def draw() -> None:
    """Draw each table: score, convergence, time, memory."""
    for label, name in TABLES.items():
        found = report(label)
        metric = f"{found.metric} on the {found.split['report']} split"
        with plots.canvas(figsize=picture.sheet_size(found.rows)) as fig:
            picture.sheet(fig, found.rows, title=found.title, chance=found.chance, metric=metric)
            save(fig, name, {row.method: record(row) for row in found.rows})


def draw_together() -> None:
    """Draw adapter, BitFit and prompt alone and together."""
    found = report("together")
    rows = sorted((row for row in found.rows if row.mean is not None), key=lambda row: row.method.count("+"))
    with plots.figure(figsize=(6.4, 3.4)) as (fig, ax):
        for place, row in enumerate(rows):
            ax.errorbar(row.mean or 0, place, xerr=row.sd or 0, fmt="o", color=picture.colour(row), capsize=3)
        ax.set_yticks(range(len(rows)), [row.method for row in rows])
        ax.invert_yaxis()
        one = len(found.seeds) == 1
        ax.set_xlabel(f"{found.metric}, one seed" if one else f"{found.metric}, mean ± sd of {len(found.seeds)} seeds")
        ax.set_title(f"{found.model} on {found.task}: methods together")
        save(fig, "methods_together", {row.method: numbers(row) for row in rows})


def draw_sizes() -> None:
    """Draw the score of some methods against the number of layers that are kept."""
    found = {layers: {row.method: row for row in report(label).rows} for label, layers in SIZES.items()}
    with plots.figure() as (fig, ax):
        for i, method in enumerate(SIZED):
            rows = {layers: rows[method] for layers, rows in found.items()}
            means = [row.mean or 0 for row in rows.values()]
            places = [layers + 0.05 * (i - len(SIZED) // 2) for layers in rows]
            ax.errorbar(places, means, yerr=[row.sd or 0 for row in rows.values()], fmt="o-", capsize=3, label=method)
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
    with plots.canvas(figsize=picture.map_size(moved)) as fig:
        picture.transfers(fig, moved, metric=found.metric)
        save(fig, "methods_transfer", moved)


def numbers(row: MethodRow) -> dict[str, Any]:
    """Return the plotted numbers of a row."""
    return {"mean": row.mean, "sd": row.sd, "trained": row.own}
