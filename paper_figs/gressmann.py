"""Accuracy of a fixed random P at d = 250 beside the published one (Gressmann et al. 2020, arXiv:2011.04720)."""

from __future__ import annotations

from idim import plots
from paper_figs.common import save, stored
from paper_figs.marks import published

PAPER = 0.800


def draw() -> None:
    """Draw every seed beside the published value."""
    (point,) = stored("gressmann")["fc"].curve
    scores = sorted(point.scores.values())
    with plots.paper(1.1) as fig:
        ax = fig.subplots()
        ax.plot(scores, [0] * len(scores), "o", mfc="white", mec=plots.BLUE, label=f"ours, {len(scores)} seeds")
        published(ax, PAPER, 0, "Gressmann et al. 2020")
        ax.set_yticks([])
        ax.set_ylim(-0.6, 1.6)
        ax.set_xlim(0.76, 0.85)
        ax.set_xlabel("accuracy on MNIST, 784-128-10, d = 250")
        ax.legend(loc="upper center", ncols=2)
        save(fig, "gressmann", {"d": point.d, "ours": scores, "published": PAPER})
