"""What rank the change of a network has: full tuning, LoRA, subspaces and nulls, from the stored reports."""

from __future__ import annotations

import json
import statistics

from matplotlib.axes import Axes

from experiments.spectra_table import is_inner
from idim import plots
from paper_figs.common import results, save

ARMS = {
    "full": "full",
    "lora": "LoRA\nr = 8",
    "subspace1000": "subspace\n1,000",
    "subspace10000": "subspace\n10,000",
    "halved": "full in\nbfloat16",
    "noise": "null:\nnoise",
}
COLOURS = {"rotten_tomatoes": plots.BLUE, "trec": plots.GREEN, "mrpc": plots.ORANGE, "mnist": plots.RED}
NAMES = {"mnist": "ResNet-20 on MNIST"}
MEASURES = {
    "effective_rank": "effective rank / largest possible",
    "energy_rank_90": "directions for 90 % of the energy /\nlargest possible",
}


def numbers() -> dict[str, dict[str, dict[str, list[float]]]]:
    """Return, by task, arm and measure, one median over the weight matrices for each seed, as a share of full rank."""
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for path in sorted(results("spectra", maker="spectra judge").glob("*/*/report.json")):
        task, arm = path.parts[-3], path.parts[-2].rpartition("-")[0]
        matrices = [m for m in json.loads(path.read_text())["matrices"] if is_inner(m)]
        row = found.setdefault(task, {}).setdefault(arm, {})
        for measure in MEASURES:
            shares = [m["measures"][measure] / min(m["matrix"]) for m in matrices if m["measures"][measure] is not None]
            if shares:  # a change that is nothing but rounding has none
                row.setdefault(measure, []).append(statistics.median(shares))
    return found


def draw() -> None:
    """Draw a panel a measure: one mark a task and seed, above the names of the arms."""
    found = numbers()
    with plots.paper(3.0, wide=True) as fig:
        for ax, (measure, label) in zip(fig.subplots(1, 2), MEASURES.items(), strict=True):
            _panel(ax, found, measure, label)
        fig.axes[1].legend(loc="lower right")
        save(fig, "spectra", found)


def _panel(ax: Axes, found: dict[str, dict[str, dict[str, list[float]]]], measure: str, label: str) -> None:
    for shift, (task, colour) in enumerate(COLOURS.items()):
        for place, arm in enumerate(ARMS):
            values = found.get(task, {}).get(arm, {}).get(measure, [])
            x = [place + 0.15 * (shift - 1.5)] * len(values)
            ax.plot(x, values, "o", color=colour, ms=3.5, label=NAMES.get(task, task) if not place else None)
    ax.set_yscale("log")
    ax.axhline(1, color=plots.GREY, lw=1)
    ax.set_xticks(range(len(ARMS)), list(ARMS.values()), fontsize=6)
    ax.set_ylabel(label)
