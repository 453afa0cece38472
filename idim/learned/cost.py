"""What finding a subspace cost: trainings, their steps, and rows of data whose gradient was taken.

Steps of different kinds of work do not compare, rows do: a training of s steps of b rows takes s·b of them, and a
product with a curvature matrix over n rows takes about as long as PASSES·n.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from idim.runs import RunSpec

PASSES = 3  # gradients that a product costs: forward and backward, and each once more


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The work behind a subspace, on top of training inside it.

    Attributes:
        runs: trainings.
        steps: their optimizer steps.
        rows: rows whose gradient was taken, each as often as that happened.
    """

    runs: int = 0
    steps: int = 0
    rows: int = 0

    def to_json(self) -> dict[str, int]:
        """Return it as plain data."""
        return asdict(self)

    @classmethod
    def of(cls, learned: Mapping[str, Any]) -> Cost | None:
        """Return the cost that a basis says it had; None where it does not say."""
        cost = learned.get("cost")
        return cls(**{name: int(cost[name]) for name in cls.__dataclass_fields__}) if isinstance(cost, dict) else None


def cost_of(specs: Iterable[RunSpec], *, train_rows: int = 0) -> Cost:
    """Return the cost of some trainings.

    Args:
        specs: the trainings.
        train_rows: rows of the training split, which a batch size of 0 stands for.
    """
    recipes = [spec.recipe for spec in specs]
    return Cost(
        runs=len(recipes),
        steps=sum(recipe.steps for recipe in recipes),
        rows=sum(recipe.steps * (recipe.batch_size or train_rows) for recipe in recipes),
    )
