"""Projections found from data: trajectories, curvature, deltas of tasks; stored as a basis."""
