"""Sweeps: a grid of runs written down in YAML, checked as a whole, then trained as far as the store lacks it."""
