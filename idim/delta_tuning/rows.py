"""From finished trainings to the rows of the table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from idim import methods
from idim.delta_tuning.cost import Cost
from idim.delta_tuning.rates import best_rate
from idim.delta_tuning.row import MethodRow, Trial, mean_curve, steps_to
from idim.runs import Outcome


def unattached(name: str, why: str) -> MethodRow:
    """Return the row of a method that the network has no place for."""
    return MethodRow(**_kind(name), why=why)


def trained(
    name: str, tried: Mapping[float, float | None], outcomes: Sequence[Outcome], *, head: int, cost: Cost | None
) -> MethodRow:
    """Return the row of a method.

    Args:
        name: of the method.
        tried: its selection scores by rate.
        outcomes: its trainings at the best of them, one a seed; the first that succeeded and was looked into tells
            what the method changed.
        head: numbers of the fresh last layer.
        cost: of a step.
    """
    results = {outcome.spec.seed: outcome.result for outcome in outcomes if outcome.result is not None}
    first = next(iter(results.values()), None)
    anatomy: Mapping[str, Any] = next((result.anatomy for result in results.values() if result.anatomy is not None), {})
    curve = mean_curve([result.curve for result in results.values()])
    return MethodRow(
        **_kind(name),
        lr=best_rate(tried),
        tried=tuple(Trial(lr=lr, score=score) for lr, score in sorted(tried.items())),
        scores={seed: result.score for seed, result in results.items()},
        failed=tuple(outcome.message for outcome in outcomes if outcome.result is None),
        trained=None if first is None else first.trained,
        head=head,
        curve=curve,
        steps_to_90=steps_to(curve),
        seconds=statistics.fmean(r.seconds for r in results.values()) if results else None,
        cost=cost,
        changed=anatomy.get("changed"),
        added=anatomy.get("added"),
        ranks=anatomy.get("ranks"),
        stored_bytes=anatomy.get("stored_bytes"),
    )


def total_seconds(outcomes: Sequence[Outcome]) -> float:
    """Return the seconds of all trainings that succeeded."""
    return math.fsum(outcome.result.seconds for outcome in outcomes if outcome.result is not None)


def _kind(name: str) -> dict[str, Any]:
    """Return what a method says of itself."""
    method = methods.parse(name)
    facts = {"group": method.group, "source": method.source, "merges": method.merges, "through": method.through}
    return {"method": name, **facts}
