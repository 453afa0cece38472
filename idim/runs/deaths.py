"""Deaths of those who train: a run is tried again on another, until it has taken three with it."""

from __future__ import annotations

from collections import Counter

from idim.runs.result import Outcome
from idim.runs.spec import RunSpec

ATTEMPTS = 3


class Deaths:
    """Counts, for every run, the workers that died of it or under it."""

    def __init__(self) -> None:
        self._counts = Counter[str]()

    def outcome(self, spec: RunSpec, reason: str) -> Outcome | None:
        """Count one more; return the failed outcome of a run that has had its last worker, or None to try it again."""
        self._counts[spec.key] += 1
        if self._counts[spec.key] < ATTEMPTS:
            return None
        message = f"its worker process died {ATTEMPTS} times, the last time of {reason}"
        return Outcome(spec=spec, message=message, passing=True)
