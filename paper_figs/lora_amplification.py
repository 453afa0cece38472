"""How much a LoRA update amplifies what the weights hardly use (Hu et al. 2021, arXiv:2106.09685, table 7)."""

from __future__ import annotations

from idim import plots
from paper_figs.common import save, spectra
from paper_figs.marks import star

ARMS = {("rank 8", "4"): ("rank 8, r = 4", "o", plots.BLUE), ("rank 64", "64"): ("rank 64, r = 64", "s", plots.ORANGE)}
PAPER = {"4": 21.5, "64": 1.9}  # of GPT-3, layer 48: 6.91 / 0.32 and 3.57 / 1.90
FILLED = {"query": "full", "value": "none"}


def draw() -> None:
    """Draw the factor in every layer, of queries (filled) and values (open)."""
    content = spectra("similarity", "lora_similarity")["amplification"]
    numbers: dict[str, dict[str, list[float]]] = {}
    with plots.paper(2.4) as fig:
        ax = fig.subplots()
        ax.set_yscale("log")
        for (rank, r), (label, mark, colour) in ARMS.items():
            for module, fill in FILLED.items():
                factors = [layer["factor"] for layer in content[rank][module][r]]
                layers = range(1, len(factors) + 1)
                ax.plot(layers, factors, f"{mark}-", fillstyle=fill, color=colour, label=f"{module}, {label}")
                numbers.setdefault(f"{rank}, r = {r}", {})[module] = factors
            ax.plot(len(factors) + 0.6, PAPER[r], "*", color=plots.RED, ms=8)
            ax.annotate(
                f"r = {r}",
                (len(factors) + 0.6, PAPER[r]),
                xytext=(0, 5),
                textcoords="offset points",
                ha="center",
                fontsize=7,
            )
        ax.axhline(1, color=plots.GREY, lw=0.8)
        ax.set_xlabel("layer of MiniLM, tuned on trec")
        ax.set_ylabel("amplification factor")
        handles = [*ax.get_legend_handles_labels()[0], star("GPT-3, layer 48 (Hu et al. 2021)")]
        fig.legend(handles=handles, loc="outside lower center", ncols=2)
        save(fig, "lora_amplification", {"ours": numbers, "published": PAPER})
