"""What can go wrong inside a run."""

from __future__ import annotations


class TrainingFailed(RuntimeError):
    """Training left the finite numbers: one line that names the step and the learning rate."""
