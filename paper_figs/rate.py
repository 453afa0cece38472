"""Selection score against the learning rate at the pilot d: the paper's 1e-3 lies far below the plateau."""

from __future__ import annotations

from idim import plots
from paper_figs.common import save, stored

PAPER = 1e-3
NETWORKS = {"784-200-200-10": ("mnist_fc", plots.BLUE), "LeNet": ("mnist_lenet", plots.GREEN)}


def tried(experiment: str) -> dict[int, list[tuple[float, float]]]:
    """Return the (rate, score) pairs that tuning saw, by d."""
    found: dict[int, list[tuple[float, float]]] = {}
    for trial in stored(experiment)["hadamard"].lr_rule["tried"]:
        if trial["score"] is not None:
            found.setdefault(trial["d"], []).append((trial["lr"], trial["score"]))
    return {d: sorted(pairs) for d, pairs in found.items()}


def draw() -> None:
    """Draw one curve for each network and d."""
    numbers = {}
    with plots.paper(2.6) as fig:
        ax = fig.subplots()
        ax.set_xscale("log")
        for name, (experiment, colour) in NETWORKS.items():
            for style, (d, pairs) in zip(("-", "--"), tried(experiment).items(), strict=False):
                ax.plot(*zip(*pairs, strict=True), "o", ls=style, ms=3, color=colour, label=f"{name}, d = {d}")
                numbers[f"{name}, d = {d}"] = pairs
        ax.axvline(PAPER, color=plots.RED, ls=":", label="Li et al. 2018: 1e-3")
        ax.set_xlabel("learning rate of Adam on z (1,500 steps)")
        ax.set_ylabel("accuracy, selection split")
        ax.set_title("Score against the learning rate")
        fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        save(fig, "rate", {"ours": numbers, "paper_rate": PAPER})
