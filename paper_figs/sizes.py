"""d_int against the size of the network that is fine-tuned (Aghajanyan et al. 2020, arXiv:2012.13255, figure 3)."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, NullLocator

from idim import plots
from idim.dimension.result import DimensionResult
from paper_figs.common import MissingRuns, answer, save, stored
from paper_figs.fine_tuning import by_task
from paper_figs.marks import published, star

PAPER = {
    "BERT-base": (110e6, 1861),
    "BERT-large": (340e6, 2493),
    "RoBERTa-base": (125e6, 1000),
    "RoBERTa-large": (355e6, 322),
}
SOURCE = "Aghajanyan et al. 2020: BERT and RoBERTa on MRPC"
KINDS = {
    "above": ("90 % of the gain over chance", "o", plots.BLUE),
    "fraction": ("90 % of full tuning", "s", plots.GREY),
}


def minilm() -> dict[str, list[DimensionResult]]:
    """Return the results on trec by bar, the smallest network first; of those depths that there are."""
    parts, whole = stored("text_sizes"), stored("text_tasks")
    found = {kind: [*by_task(parts, kind).values(), by_task(whole, kind)["trec"]] for kind in KINDS}
    return {kind: sorted(results, key=lambda r: r.D) for kind, results in found.items()}


def resnets() -> list[DimensionResult]:
    """Return the results of the ResNets, the smallest first; none when they have not been measured."""
    try:
        results = stored("resnet_sizes")
    except MissingRuns:
        return []
    return sorted((r for name, r in results.items() if name.startswith("resnet")), key=lambda r: r.D)


def draw() -> None:
    """Draw texts beside the published values, and images where there are any."""
    texts, images = minilm(), resnets()
    with plots.paper(2.6, wide=bool(images)) as fig:
        axes = fig.subplots(1, 2 if images else 1, squeeze=False)[0]
        for kind, (label, mark, colour) in KINDS.items():
            line(axes[0], texts[kind], mark, colour, label)
        for D, d in PAPER.values():
            published(axes[0], D, d)
        axes[0].set_xlim(8e6, 6e8)
        axes[0].set_title("MiniLM of 2, 4 and 6 layers on trec" if len(texts["above"]) > 2 else "MiniLM on trec")
        handles = [*axes[0].get_legend_handles_labels()[0], star(SOURCE)]
        fig.legend(handles=handles, loc="outside lower center", ncols=1 + bool(images))
        if images:
            line(axes[1], images, "s", plots.GREY, "90 % of full tuning")
            plots.plain_log_ticks(axes[1])
            axes[1].set_title("ResNet-20 to 56 on a small MNIST")
            axes[1].set_xticks([r.D for r in images], labels=[f"{r.D / 1000:.0f}k" for r in images], minor=False)
            axes[1].xaxis.set_minor_locator(NullLocator())
        axes[0].set_ylabel("d_int")
        numbers = {kind: {r.model: answer(r) for r in results} for kind, results in texts.items()}
        shown = {name: {"D": D, "d_int": d} for name, (D, d) in PAPER.items()}
        save(fig, "sizes", {"texts": numbers, "images": {r.model: answer(r) for r in images}, "published": shown})


def line(ax: Axes, results: list[DimensionResult], mark: str, colour: str, label: str) -> None:
    """Draw estimates with their intervals against D; an arrow up from the lower end where none was reached."""
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.xaxis.set_minor_formatter(NullFormatter())
    reached = [r for r in results if r.d_int is not None]
    for r in results:
        if r.d_int is None:
            ax.plot(r.D, r.ci95[0], "^", color=colour, mfc="white")
    ends = [(r.d_int - r.ci95[0], min(r.ci95[1], 4 * r.d_int) - r.d_int) for r in reached if r.d_int is not None]
    heights = [float(r.d_int or 0) for r in reached]
    spans = list(zip(*ends, strict=True)) or None
    ax.errorbar([r.D for r in reached], heights, yerr=spans, fmt=f"{mark}-", color=colour, elinewidth=0.8, label=label)
    for r in reached:
        if math.isinf(r.ci95[1]):
            ax.plot(r.D, 4 * float(r.d_int or 0), "^", color=colour, ms=5)
    ax.set_xlabel("native parameters D")
