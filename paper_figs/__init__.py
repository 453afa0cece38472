"""Figures drawn from stored results; nothing here trains. ``python -m paper_figs`` draws them all."""
