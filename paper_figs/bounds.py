"""What runs on MNIST prove, against d (Lotfi et al. 2022)."""

from __future__ import annotations

from idim import plots
from idim.theory.certificate import Certificate
from idim.theory.report import BoundReport
from paper_figs.common import results, save

NAME, TITLE = "mnist_fc", "784-200-200-10 on MNIST"
LOTFI = 0.116  # their bound on MNIST from scratch, for a LeNet-5


def draw() -> None:
    """Draw bound, test error and training error, beside the bound of the paper."""
    report = BoundReport.load(results("bounds", NAME, maker=f"bounds {NAME}"))
    with plots.paper(2.9) as fig:
        ax = report.plot(fig.subplots())
        ax.axhline(LOTFI, color=plots.RED, ls=":", lw=1, label="Lotfi et al. 2022")
        ax.set_title(TITLE)
        fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3)
        save(fig, "bounds", {NAME: [_point(c) for c in report.certificates], "lotfi": LOTFI})


def _point(c: Certificate) -> dict[str, float]:
    return {"d": c.d, "bits": c.bits.total, "bound": c.bounds.kl, "train": c.errors.train, "test": c.errors.test}
