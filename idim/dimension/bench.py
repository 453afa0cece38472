"""The workbench of one measure: makes the specs of its runs and trains them through an engine."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from idim.dimension.progress import Later, Progress
from idim.dimension.protocols import Protocol
from idim.dimension.rates import RateRule
from idim.dimension.search import Point
from idim.errors import RequestError
from idim.runs import Engine, Outcome, RunResult, RunSpec
from idim.runs.spec import Head
from idim.tasks import Task

Seen = dict[int, dict[int, float]]
"""The observations of a search so far: score by d and seed."""


@dataclass
class Bench:
    """One model, task and protocol; what has been trained so far, and what failed."""

    task: Task
    model: str
    projection: str
    protocol: Protocol
    engine: Engine
    progress: Progress
    head: Head = "inside"
    head_lr: float | None = None
    stage: str = ""
    later: Later = field(default_factory=Later)
    used: dict[str, Outcome] = field(default_factory=dict)
    untuned: RunResult | None = None
    """What is scored without any training, where there is no chance: a run that ends worse counts as no better."""

    def full(self, lr: float, seed: int) -> RunSpec:
        """Return the spec of a full training."""
        return self._spec(lr, seed, "full", None)

    def subspace(self, d: int, lr: float, seed: int) -> RunSpec:
        """Return the spec of a training in d coordinates."""
        return self._spec(lr, seed, "subspace", d)

    def evaluate_untuned(self) -> RunResult:
        """Score the network as it comes; later scores count as at least that.

        Raises:
            RequestError: when it cannot be scored.
        """
        spec = self._spec(1.0, 0, "untuned", None)
        outcome = self.engine.map([spec])[spec.key]
        if outcome.result is None:
            raise RequestError(f"the untuned network must have a score; received: {outcome.message}")
        self.untuned = outcome.result
        return outcome.result

    def _spec(self, lr: float, seed: int, method: str, d: int | None) -> RunSpec:
        return RunSpec(
            task=self.task.name,
            fingerprint=self.task.fingerprint,
            model=self.model,
            method=method,
            projection=self.projection if d is not None else None,
            d=d,
            lr=lr,
            recipe=self.protocol.recipe,
            seed=seed,
            head=self.head,
            head_lr=self.head_lr,
        )

    def train(self, specs: Sequence[RunSpec]) -> list[Outcome]:
        """Train what the store lacks; return the outcomes in the order of the specs."""
        missing = [spec for spec in specs if self.engine.store.get(spec) is None]
        self.progress.begin(self.stage, missing, self.later)
        outcomes = self.engine.map(specs, progress=self.progress.advance)
        self.used |= outcomes
        return [outcomes[spec.key] for spec in specs]

    def selection_scores(self, specs: Sequence[RunSpec]) -> list[float | None]:
        """Return the selection-split score of each spec, None where the training failed."""
        least = -math.inf if self.untuned is None else self.untuned.selection_score
        return [max(o.result.selection_score, least) if o.result else None for o in self.train(specs)]

    def observe(self, points: Iterable[Point], rule: RateRule, seen: Seen, failed: set[Point]) -> None:
        """Train at these points and enter their report-split scores into ``seen``, or the point into ``failed``."""
        points = list(points)
        least = -math.inf if self.untuned is None else self.untuned.score
        for (d, seed), outcome in zip(
            points, self.train([self.subspace(d, rule.lr(d), seed) for d, seed in points]), strict=True
        ):
            if outcome.result is None:
                failed.add((d, seed))
            else:
                seen.setdefault(d, {})[seed] = max(outcome.result.score, least)

    def failures(self) -> list[Outcome]:
        """Return the outcomes that failed, in the order of their keys."""
        return [o for _, o in sorted(self.used.items()) if o.result is None]
