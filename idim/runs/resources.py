"""What a run reserves on a cluster while it trains."""

from __future__ import annotations

import math
from dataclasses import dataclass

from idim.errors import RequestError


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Shares of a node; they say how many runs are placed on it at once, and change no number.

    Args:
        cpus: cores. A run computes on one thread, so more than one core keeps memory or bandwidth free for it.
        gpus: GPUs. A run trains on the CPU today: a share only places it on a node that has one.

    Raises:
        RequestError: for a share out of range.
    """

    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.cpus) and self.cpus > 0):
            raise RequestError(f"cpus of a run must be finite and above 0; received {self.cpus:g}")
        if not (math.isfinite(self.gpus) and self.gpus >= 0):
            raise RequestError(f"gpus of a run must be finite and at least 0; received {self.gpus:g}")
        for name, amount in (("cpus", self.cpus), ("gpus", self.gpus)):
            if amount > 1 and amount != int(amount):
                raise RequestError(f"{name} of a run must be whole above 1, as Ray asks; received {amount:g}")

    def __str__(self) -> str:
        return f"cpus {self.cpus:g}" + (f" and gpus {self.gpus:g}" if self.gpus else "")

    def fits(self, cpus: float, gpus: float) -> int:
        """Return how many such runs a node with so many cores and GPUs takes at once."""
        counts = [cpus / self.cpus, *([gpus / self.gpus] if self.gpus else [])]
        return math.floor(min(counts) + 1e-9)  # three tenths fit three times into nine tenths
