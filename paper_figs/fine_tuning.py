"""d_int of fine-tuning MiniLM on every task, at two bars, and of the same network without its pre-training."""

from __future__ import annotations

from collections.abc import Mapping

from idim import plots
from idim.dimension.result import DimensionResult
from paper_figs.common import answer, save, stored
from paper_figs.marks import interval

BARS = {"fraction": ("90 % of full tuning", plots.GREY), "above": ("90 % of the gain over chance", plots.BLUE)}
SCRATCH = ("random weights, the same bar", plots.ORANGE)


def by_task(results: Mapping[str, DimensionResult], kind: str) -> dict[str, DimensionResult]:
    """Return the results of one bar by task, or by whatever stands before the name of the bar."""
    return {name.rpartition("-")[0]: r for name, r in results.items() if name.endswith(f"-{kind}")}


def _label(task: str, result: DimensionResult) -> str:
    return f"{task.replace('_', ' ')}\n{result.protocol['steps']} steps"


def draw() -> None:
    """Draw a row for each task."""
    results, scratch = stored("text_tasks"), by_task(stored("text_scratch"), "same")
    groups = {kind: by_task(results, kind) for kind in BARS}
    order = sorted(groups["above"], key=lambda task: groups["above"][task].ci95, reverse=True)
    edge = 1.6 * max(max(p.d for p in r.curve) for r in (*results.values(), *scratch.values()))
    with plots.paper(0.4 * len(order) + 1.3) as fig:
        ax = fig.subplots()
        ax.set_xscale("log")
        for row, task in enumerate(order):
            for shift, (kind, (_, colour)) in zip((0.22, 0.0), BARS.items(), strict=True):
                if task in groups[kind]:
                    interval(ax, row + shift, groups[kind][task], colour, edge)
            if task in scratch:
                interval(ax, row - 0.22, scratch[task], SCRATCH[1], edge)
        for label, colour in (*BARS.values(), SCRATCH):
            ax.plot([], [], "o-", color=colour, label=label)
        ax.set_yticks(range(len(order)), [_label(task, groups["above"][task]) for task in order])
        ax.set_ylim(-0.6, len(order) - 0.4)
        ax.set_xlabel("d_int and its 95 % interval")
        ax.set_title("Fine-tuning MiniLM, D = 22.6 million")
        fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=1)
        save(
            fig,
            "fine_tuning",
            {name: answer(r) for name, r in results.items()} | {f"{t}-scratch": answer(r) for t, r in scratch.items()},
        )
