"""The steps of a measure over its workbench: reference, learning rate, search, result."""

from __future__ import annotations

import dataclasses
import functools
import math
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from idim import models
from idim.dimension import rates
from idim.dimension.bar import Bar
from idim.dimension.bench import Bench, Seen
from idim.dimension.definition import definition
from idim.dimension.estimate import Estimate, estimate
from idim.dimension.outlook import Outlook
from idim.dimension.rates import RateRule, Trial
from idim.dimension.request import MeasureRequest
from idim.dimension.result import CurvePoint, DimensionResult
from idim.dimension.search import Point, propose
from idim.dimension.smoothing import Level
from idim.errors import RequestError
from idim.runs import Outcome
from idim.runs.environment import versions
from idim.tasks.metrics import said

RETUNE_FACTOR = 2.0  # tune again when the rough d_int is further than this factor from the pilot d
TUNE_SEEDS = 3


@dataclass(frozen=True)
class Reference:
    """Report-split scores of full training, one a seed, at the tuned rate; empty for an absolute bar."""

    lr: float | None = None
    scores: tuple[float, ...] = ()
    tried: tuple[Trial, ...] = ()

    @property
    def mean(self) -> float | None:
        """The mean score."""
        return statistics.fmean(self.scores) if self.scores else None

    @property
    def std(self) -> float | None:
        """The standard deviation over seeds; None for fewer than two."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None

    def report(self) -> dict[str, Any]:
        """Return mean, std, n, and how the rate was found."""
        return {
            "mean": self.mean,
            "std": self.std,
            "n": len(self.scores),
            "lr": self.lr,
            "scores": list(self.scores),
            "tried": [vars(t) for t in self.tried],
        }


@dataclass
class Procedure:
    """One measure: what is asked, the workbench, the bar, D, and the range of d."""

    request: MeasureRequest
    bench: Bench
    bar: Bar
    D: int
    d_min: int
    d_max: int
    seen: Seen = field(default_factory=dict)
    failed: set[Point] = field(default_factory=set)

    def result(self) -> DimensionResult:
        """Train what is needed and return the answer."""
        floor = self.floor()
        reference = self.reference()
        mean = math.nan if reference.mean is None else reference.mean
        threshold = self.bar.threshold(mean, floor)
        self._check_untuned(threshold)
        error = self.bar.error(reference.std or 0.0, len(reference.scores))
        level = Level(mean=threshold, error=error, df=float(max(1, len(reference.scores) - 1)))
        rule = self.rate_rule(level)
        self.seen, self.failed, stopped = self.search(rule, level, self.request.seeds, self.request.width)
        answer = self.estimate(self.seen, level)
        return self.report(reference, rule, threshold, answer, stopped)

    @property
    def outlook(self) -> Outlook:
        """The trainings that are expected at every stage."""
        return Outlook(self.request, tunes=self.bench.protocol.rule is None, tuning=rates.LEAST_TRIED * self.tune_seeds)

    @property
    def tune_seeds(self) -> int:
        """Seeds of each learning rate that is tried."""
        return min(TUNE_SEEDS, self.request.seeds)

    # -- the bar ------------------------------------------------------------------------------

    def floor(self) -> float:
        """Return the score without training: of the best constant answer, or of the untuned decoder."""
        task = self.bench.task
        return self.bench.evaluate_untuned().score if task.next_token else task.chance

    def _check_untuned(self, threshold: float) -> None:
        untuned, metric = self.bench.untuned, self.bench.task.metric
        if untuned is not None and untuned.score >= threshold:
            raise RequestError(
                f"the bar must be out of reach of the untuned network; received {self.bar}, a {metric} of "
                f"{said(metric, threshold)}, where the untuned one has {said(metric, untuned.score)}: ask for more"
            )

    def reference(self) -> Reference:
        """Train in full where the bar is relative: tune the rate, then one run a seed."""
        if not self.bar.relative:
            return Reference()
        self.bench.stage, self.bench.later = "reference", self.outlook.while_tuning_reference
        optimizer = self.bench.protocol.recipe.optimizer
        lr = self.bench.protocol.full_lr
        tried: dict[float, float | None] = {}
        if lr is None:
            starts = rates.START_PRETRAINED if models.is_pretrained(self.bench.model) else rates.START_FULL
            lr, tried = rates.tune(lambda lrs: self._tuning_scores(None, lrs), starts[optimizer])
        self.bench.later = self.outlook.after_reference
        outcomes = self.bench.train([self.bench.full(lr, seed) for seed in range(self.request.reference_seeds)])
        scores = tuple(o.result.score for o in outcomes if o.result)
        if not scores:
            raise RequestError(f"a relative bar needs a reference run; every one failed: {outcomes[0].message}")
        return Reference(lr, scores, tuple(Trial(None, r, s) for r, s in tried.items()))

    # -- the learning rate --------------------------------------------------------------------

    def rate_rule(self, level: Level) -> RateRule:
        """Return the rule of lr(d): as asked, or tuned at a pilot d and where the crossing roughly is."""
        if self.bench.protocol.rule is not None:
            return self.bench.protocol.rule
        pilot = min(max(round(math.sqrt(self.D)), self.d_min), self.d_max)
        if self.request.dimensions:
            pilot = self.request.dimensions[len(self.request.dimensions) // 2]
        rule = self._tune_at(pilot, rates.START[self.bench.protocol.recipe.optimizer], ())
        rough = self._rough(rule, level)
        if max(rough / pilot, pilot / rough) > RETUNE_FACTOR:
            rule = self._tune_at(rough, rule.constant, rule.tried)
        return rule

    def _tune_at(self, d: int, start: float, before: tuple[Trial, ...]) -> RateRule:
        self.bench.stage, self.bench.later = f"learning rate at d = {d}", self.outlook.while_tuning
        root = math.sqrt(d)
        c, tried = rates.tune(lambda cs: self._tuning_scores(d, [c / root for c in cs]), start)
        return rates.tuned(c, (*before, *(Trial(d, c / root, s) for c, s in tried.items())))

    def _tuning_scores(self, d: int | None, lrs: Sequence[float]) -> list[tuple[float, ...] | None]:
        """Return the selection scores of each rate over the tuning seeds; None if one failed."""
        seeds = range(self.tune_seeds)
        make = self.bench.full if d is None else functools.partial(self.bench.subspace, d)
        flat = self.bench.selection_scores([make(lr, seed) for lr in lrs for seed in seeds])
        groups = [tuple(flat[i : i + len(seeds)]) for i in range(0, len(flat), len(seeds))]
        return [None if None in group else cast("tuple[float, ...]", group) for group in groups]

    def _rough(self, rule: RateRule, level: Level) -> int:
        """Return roughly where the bar is reached: the coarse ladder with one seed."""
        if self.request.dimensions:
            return self.request.dimensions[len(self.request.dimensions) // 2]
        seen, _, _ = self.search(rule, level, 1, math.inf)
        return self.estimate(seen, level).d_int or self.d_max

    # -- the search ---------------------------------------------------------------------------

    def search(self, rule: RateRule, level: Level, seeds: int, width: float) -> tuple[Seen, set[Point], str]:
        """Return what was observed and failed, and why the search stopped; an infinite width only brackets."""
        self.bench.stage = "search"
        seen: Seen = {}
        failed: set[Point] = set()
        while True:
            proposal = propose(
                seen,
                failed=failed,
                threshold=level.mean,
                error=level.error,
                df=level.df,
                d_min=self.d_min,
                d_max=self.d_max,
                dims=self.request.dimensions,
                seeds=seeds,
                width=width,
                budget=self.request.budget,
            )
            if proposal.done:
                break
            self.bench.later = self.outlook.in_search(len(proposal.points), sum(map(len, seen.values())) + len(failed))
            self.bench.observe(proposal.points, rule, seen, failed)
        if not seen:
            raise RequestError(f"every training failed; the first: {self.bench.failures()[0].message}")
        return seen, failed, proposal.reason

    # -- the answer ---------------------------------------------------------------------------

    def estimate(self, seen: Seen, level: Level) -> Estimate:
        """Return d_int and its interval from what was observed."""
        return estimate(seen, threshold=level.mean, error=level.error, df=level.df, d_min=self.d_min)

    def report(
        self, reference: Reference, rule: RateRule, threshold: float, answer: Estimate, stopped: str
    ) -> DimensionResult:
        """Put everything that defines the number beside the number."""
        used = [o.result for o in self.bench.used.values() if o.result]
        task, recipe = self.bench.task, self.bench.protocol.recipe
        return DimensionResult(
            d_int=answer.d_int,
            ci95=(float(answer.lo), float(answer.hi)),
            censored=answer.censored,
            definition=definition(self.bench, self.D, threshold),
            bar=self.bar.report(threshold),
            reference=reference.report(),
            metric=task.metric,
            split={"learning_rate": "selection", "report": "report"},
            projection=self.bench.projection,
            D=self.D,
            model=self.bench.model,
            task=task.name,
            protocol={"name": self.bench.protocol.name, **dataclasses.asdict(recipe)},
            lr_rule=rule.report(),
            seeds=tuple(sorted({s for scores in self.seen.values() for s in scores})),
            curve=tuple(CurvePoint(d, rule.lr(d), scores) for d, scores in sorted(self.seen.items())),
            fit=answer.curve,
            failed=tuple(_failure(o) for o in self.bench.failures()),
            stopped=stopped,
            trainings=len(self.bench.used),
            steps=sum(r.steps for r in used),
            seconds=round(math.fsum(r.seconds for r in used), 1),
            versions={**versions(), "machine": platform.machine()},
            head={"kind": self.bench.head, "lr": self.bench.head_lr},
            falls=answer.falls,
            untuned=None if self.bench.untuned is None else self.bench.untuned.score,
        )


def _failure(outcome: Outcome) -> dict[str, Any]:
    spec = outcome.spec
    return {"d": spec.d, "lr": spec.lr, "seed": spec.seed, "message": outcome.message}
