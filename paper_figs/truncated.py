"""Score of fully tuned networks of whose change only the leading directions are kept, or left out."""

from __future__ import annotations

from idim import plots
from paper_figs.common import save
from paper_figs.common import spectra as stored_spectra
from paper_figs.spectra import COLOURS

FULL = 384  # directions of a matrix


def shares(scores: dict[str, float], word: str) -> list[tuple[int, float]]:
    """Return rank and share of the gain from tuning the body, for the scores named by a word and a rank."""
    floor, gain = scores["rank 0"], scores["tuned"] - scores["rank 0"]
    return [(int(name.split()[1]), (score - floor) / gain) for name, score in scores.items() if word in name]


def draw() -> None:
    """Draw, for each run, the share of what tuning the body gained that survives at each rank."""
    runs = {label: row["scores"] for label, row in stored_spectra("truncated", "truncated").items()}
    with plots.paper(2.8) as fig:
        ax = fig.subplots()
        for label, scores in runs.items():
            task, _, run = label.partition("/")
            kept, left_out = shares(scores, "rank"), shares(scores, "without")
            first = task if run.endswith("-0") else None
            ax.plot(*zip(*kept, (FULL, 1.0), strict=True), "o-", color=COLOURS[task], ms=3, label=first)
            ax.plot(*zip(*left_out, strict=True), "x--", color=COLOURS[task], ms=4)
        ax.axhline(1, color=plots.GREY, lw=1)
        ax.set_xscale("symlog", base=2, linthresh=1)
        ticks = [0, 1, 2, 4, 8, 16, 64, FULL]
        ax.set_xticks(ticks, [str(tick) for tick in ticks])
        ax.set_xlabel("directions kept (solid) or left out (dashed)")
        ax.set_ylabel("share of the gain of the body")
        ax.set_title("MiniLM with few directions a matrix")
        ax.set_xlim(-0.2, 1.3 * FULL)
        fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3)
        save(fig, "truncated", runs)
