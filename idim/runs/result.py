"""What a run gives: numbers, or the reason why there are none."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from idim.runs.spec import RunSpec

LATER = ("curve", "anatomy")


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """The numbers of one training.

    Attributes:
        score: metric on the report split, after the last step.
        selection_score: metric on the selection split, after the last step.
        train_loss: mean loss of the last batches (at most 50), without weight decay.
        D: native parameters.
        trained: numbers the optimizer saw.
        steps: optimizer steps (iterations, for lbfgs).
        seconds: wall time; two equal results may differ in it.
        curve: steps done and the score there, on a few rows of the selection split, where the spec asks for it.
        anatomy: what the training has changed, where the spec asks for it (:mod:`idim.runs.anatomy`).
    """

    score: float
    selection_score: float
    train_loss: float
    D: int
    trained: int
    steps: int
    seconds: float = field(compare=False)
    curve: tuple[tuple[int, float], ...] = ()
    anatomy: Mapping[str, Any] | None = field(default=None, hash=False)

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain data; what was not asked for is left out, as in earlier results."""
        content = dataclasses.asdict(self)
        return {name: value for name, value in content.items() if name not in LATER or value}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> RunResult:
        """Return the result of plain data."""
        curve = tuple((int(step), float(score)) for step, score in content.get("curve", ()))
        return cls(**{**content, "curve": curve})


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A spec with its result, or with ``result`` None and the message of what failed.

    ``passing`` marks a failure that lies with the machine (no memory, a killed worker), not with the run:
    it is reported now and tried again when it is asked for later. ``host`` is the machine that trained it, where
    that was not the driver's.
    """

    spec: RunSpec
    result: RunResult | None = None
    message: str = ""
    passing: bool = False
    host: str | None = field(default=None, compare=False)

    @property
    def failed(self) -> bool:
        """Whether the run has no result."""
        return self.result is None

    def __str__(self) -> str:
        what = self.spec.method if self.spec.d is None else f"d={self.spec.d}"
        end = f"score={self.result.score:.4f}" if self.result else f"failed: {self.message}"
        return f"{what} seed={self.spec.seed} {end}"
