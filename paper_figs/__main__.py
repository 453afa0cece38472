"""Draw every figure: ``python -m paper_figs [NAME ...]``; pictures and numbers go to ``paper_figs/drawn/``."""

from __future__ import annotations

import sys

from paper_figs import budget, fine_tuning, kinds, learning_rate, methods, pretraining, rate, spectra, truncated

FIGURES = {
    "kinds": kinds.draw,
    "budget": budget.draw,
    "rate": rate.draw,
    "spectra": spectra.draw,
    "truncated": truncated.draw,
    "learning_rate": learning_rate.draw,
    "fine_tuning": fine_tuning.draw,
    "pretraining": pretraining.draw,
    "methods": methods.draw,
    "methods_together": methods.draw_together,
}


def main() -> None:
    """Draw the figures named, or all."""
    for name in sys.argv[1:] or FIGURES:
        FIGURES[name]()


if __name__ == "__main__":
    main()
