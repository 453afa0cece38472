"""Score against d for problems whose intrinsic dimension is known (Li et al. 2018, section 2 and figure 1)."""

from __future__ import annotations

from idim import plots
from paper_figs.common import save, stored

KNOWN = {
    "rank5": ("rank 5", 5, plots.GREEN),
    "toy": ("toy of Li et al.", 10, plots.BLUE),
    "rank20": ("rank 20", 20, plots.ORANGE),
}


def draw() -> None:
    """Draw one curve a problem, a dotted line at the dimension that it is known to have."""
    results, numbers = stored("toy"), {}
    with plots.paper(2.2) as fig:
        ax = fig.subplots()
        for name, (label, known, colour) in KNOWN.items():
            points = [(p.d, p.mean) for p in results[name].curve]
            ax.plot(
                *zip(*points, strict=True), "o-", ms=3, color=colour, label=f"{label}: d_int = {results[name].d_int}"
            )
            ax.axvline(known, color=colour, ls=":", lw=1)
            numbers[name] = {"known": known, "d_int": results[name].d_int, "curve": points}
        ax.set_xlabel("subspace coordinates d")
        ax.set_ylabel("R², mean of three seeds")
        ax.set_title("Known dimensions, D = 1000 (dotted)")
        ax.legend(loc="lower right")
        save(fig, "toy", numbers)
