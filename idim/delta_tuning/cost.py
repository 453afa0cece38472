"""What a step of a method costs at one batch size and precision: a value."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

CostPrecision = Literal["fp32", "bf16", "nf4"]
PRECISIONS: tuple[CostPrecision, ...] = ("fp32", "bf16", "nf4")
Cell = tuple[str, CostPrecision, int, int]
"""Method, precision, batch size, length."""
BATCHES = (1, 8, 32, 64)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One cell of the table of costs; the figures are None where ``failed`` says why.

    Attributes:
        method, precision: what was trained, and how the frozen base was kept.
        batch, length: rows of a step, tokens of a row (0: rows are no texts).
        peak_mb: peak resident memory of training beyond that of the libraries.
        forward_ms, backward_ms, optimizer_ms: medians over steps, one thread.
        base_ms, inference_ms, merged_ms: answers to one batch: the base's, with the method on it, merged.
        failed: why there are no figures.
    """

    method: str
    precision: CostPrecision
    batch: int
    length: int
    peak_mb: float | None = None
    forward_ms: float | None = None
    backward_ms: float | None = None
    optimizer_ms: float | None = None
    base_ms: float | None = None
    inference_ms: float | None = None
    merged_ms: float | None = None
    failed: str = ""

    @property
    def step_ms(self) -> float | None:
        """The whole step."""
        parts = (self.forward_ms, self.backward_ms, self.optimizer_ms)
        return None if None in parts else sum(part for part in parts if part is not None)

    @property
    def added(self) -> float | None:
        """Inference with the method on the base, as a share of the base's own, less one."""
        return self.inference_ms / self.base_ms - 1 if self.inference_ms and self.base_ms else None

    @property
    def cell(self) -> Cell:
        """What was asked."""
        return self.method, self.precision, self.batch, self.length

    def to_json(self) -> dict[str, Any]:
        """Return the cell as plain data."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Cost:
        """Return the cell of plain data."""
        return cls(**content)
