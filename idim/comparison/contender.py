"""A subspace that takes part in a comparison: how runs name it, and what finding it cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from idim.learned.cost import Cost


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One kind of subspace, found.

    Attributes:
        kind: as it was asked for.
        what: what it is, in words.
        projection, model: its names in runs.
        seeded: whether it can be used from any initial parameters; else it belongs to those of seed 0.
        starts: whether it trains from elsewhere than the other kinds do.
        least_d, most_d: the d that it can have: up to its columns, or to D where it is random; a decoder has one.
        cost: the work of finding it; None where that is not known.
        stored_bytes: what has to be kept of it beside a seed.
    """

    kind: str
    what: str
    projection: str
    model: str
    seeded: bool = True
    starts: bool = False
    least_d: int = 1
    most_d: int
    cost: Cost | None = field(default_factory=Cost)
    stored_bytes: int = 0

    @property
    def label(self) -> str:
        """A short name: that of its file, where it was given one."""
        return Path(self.kind).stem if self.kind.endswith(".safetensors") else self.kind

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        cost = None if self.cost is None else self.cost.to_json() | {"bytes": self.stored_bytes}
        return {
            "kind": self.kind,
            "label": self.label,
            "what": self.what,
            "projection": self.projection,
            "model": self.model,
            "seeds": "all" if self.seeded else "the first",
            "columns": self.most_d,
            "cost": cost,
        }
