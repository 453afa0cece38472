"""d_int of fine-tuning on trec for every kind of projection, and of SAID beside DID on every task that has both."""

from __future__ import annotations

from idim import plots
from idim.dimension.result import DimensionResult
from paper_figs.common import answer, save, stored
from paper_figs.fine_tuning import by_task
from paper_figs.marks import interval

DID, SAID, KIND = plots.BLUE, plots.ORANGE, plots.GREY


def rows() -> dict[str, tuple[DimensionResult, str]]:
    """Return the results at 90 % of the gain over chance, and their colours, by what was varied."""
    random, scaled = by_task(stored("text_tasks"), "above"), by_task(stored("text_said"), "above")
    pairs = {}
    for task, result in scaled.items():
        name = task.replace("_", " ")
        pairs |= {f"DID, {name}": (random[task], DID), f"SAID, {name}": (result, SAID)}
    return pairs | {f"{kind}, trec": (result, KIND) for kind, result in stored("text_kinds").items()}


def draw() -> None:
    """Draw one interval a row."""
    results = rows()
    edge = 1.6 * max(p.d for r, _ in results.values() for p in r.curve)
    with plots.paper(0.19 * len(results) + 0.8) as fig:
        ax = fig.subplots()
        ax.set_xscale("log")
        for row, (result, colour) in enumerate(reversed(results.values())):
            interval(ax, row, result, colour, edge)
        ax.set_yticks(range(len(results)), list(reversed(results)))
        ax.set_xlabel("d_int and its 95 % interval")
        ax.set_title("MiniLM: scales and kinds")
        save(fig, "tuning_variants", {name: answer(r) for name, (r, _) in results.items()})
