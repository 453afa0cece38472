"""What becomes of a network's fresh last layer unless something else is asked."""

from __future__ import annotations

from idim import models
from idim.runs.spec import Head
from idim.tasks import Task

HEAD_LR = 1e-3  # a fresh layer of a few hundred numbers; the same at every d, so that d alone varies


def usual_head(model: str, task: Task) -> Head:
    """Return the head of a network: trained directly where it is fresh over texts, else inside."""
    return "trained" if models.reads_texts(model) and not task.next_token else "inside"
