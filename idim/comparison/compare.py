r"""``compare``: train a network in subspaces of many kinds at the same d, and put the kinds side by side.

1. *check* – tasks, shapes, overlaps, kinds and dims, before anything trains;
2. *zero line* – a random subspace on every task, and with it the full trainings and the bar that all kinds share;
3. *find* – every subspace, from the full training of seed 0, from its start, or from other tasks
   (:mod:`idim.comparison.finding`), and what that cost;
4. *measure* – score against d in each, and d_int at the shared bar (:mod:`idim.dimension`);
5. *transfer* – where asked: the same subspaces on unseen tasks, from the same initial parameters and at the rates that
   were found on the task.

Everything is a function of finished runs and of kept bases, so a killed comparison that is started again goes on.

A subspace found from data belongs to one network at one place: it has the one seed it was found from, where a random
one is drawn anew with every seed. What finding it cost is counted apart and not part of its score.
"""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from idim.comparison.contender import Contender
from idim.comparison.finding import ZERO, Workshop
from idim.comparison.plan import Plan, asked, planned
from idim.comparison.report import CompareReport, Row
from idim.comparison.request import CompareRequest
from idim.dimension.measure import Prepared, prepare
from idim.dimension.progress import Later, Progress, shown
from idim.dimension.request import MeasureRequest
from idim.dimension.result import DimensionResult
from idim.errors import RequestError
from idim.files import writable_folder
from idim.projections import least_d
from idim.runs import Engine, Outcome, RunSpec, Store, workplace
from idim.runs.environment import versions

UNUSED = 1.0  # the rate of a full training that no kind asks for
Zeros = dict[str, DimensionResult]


def compare(model: str | None = None, task: str = "digits", **options: object) -> CompareReport:
    """Put subspaces of many kinds side by side for ``model`` on ``task``.

    Args:
        model: a model's name, as for :func:`idim.measure`; None for the task's default.
        task: a task's name.
        options: the other fields of :class:`~idim.comparison.request.CompareRequest`.

    Returns:
        For every kind: score against d, d_int at the shared bar, what finding it cost, and the same on unseen tasks.

    Raises:
        RequestError: when the request cannot be served, before anything trains.
    """
    return run_compare(CompareRequest(model=model, task=task, **options))  # type: ignore[arg-type]


def output_folder(request: CompareRequest) -> Path:
    """Return where this request writes: ``out``, or a name made of what is compared.

    Raises:
        RequestError: for an unknown task.
    """
    return workplace.output_folder(request, before=("subspaces",))


def run_compare(request: CompareRequest) -> CompareReport:
    """Serve a request: train what the store lacks, find the subspaces, and return the report without writing it.

    Raises:
        RequestError: when the request cannot be served, before anything trains.
    """
    plan = planned(request)
    out = writable_folder(output_folder(request))
    with workplace.opened(request, out) as (store, engine), shown(quiet=request.quiet) as progress:
        return Comparison(plan=plan, store=store, engine=engine, progress=progress, folder=out).report()


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One comparison at work."""

    plan: Plan
    store: Store
    engine: Engine
    progress: Progress
    folder: Path

    def report(self) -> CompareReport:
        """Train and find what is needed, and return the answer."""
        request, main = self.plan.request, self.plan.main
        zeros = self._zeros()
        bench, left_out = self._workshop(zeros[self.plan.task.name]), {}
        rows = []
        for kind in request.wanted:
            try:
                rows.append(self._row(bench.find(kind), zeros))
            except RequestError as error:  # the others are still worth having
                left_out[kind] = str(error)
        return CompareReport(
            task=self.plan.task.name,
            unseen=tuple(task.name for task in self.plan.unseen),
            learn_from=tuple(task.name for task in self.plan.others),
            model=main.model,
            metric=self.plan.task.metric,
            D=main.layout.D,
            dims=request.dimensions,
            steps=bench.full.recipe.steps,
            full={name: dict(zero.reference) for name, zero in zeros.items()},
            bar={name: dict(zero.bar) for name, zero in zeros.items()},
            rows=tuple(rows),
            left_out=left_out,
            versions={**versions(), "machine": platform.machine()},
        )

    def _zeros(self) -> Zeros:
        """Return the zero line on every task; unseen ones take its rates, and those of full training, from the task."""
        name = self.plan.task.name
        first = self._measured(ZERO, self.plan.main)
        return {name: first} | {
            other: self._measured(ZERO, prepare(_at_rates_of(first, prepared.request)))
            for other, prepared in self.plan.zero.items()
            if other != name
        }

    def _workshop(self, zero: DimensionResult) -> Workshop:
        main = self.plan.main
        full = RunSpec(
            task=self.plan.task.name,
            fingerprint=self.plan.task.fingerprint,
            model=main.model,
            method="full",
            lr=main.protocol.full_lr or zero.reference["lr"] or UNUSED,
            recipe=main.protocol.recipe,
            seed=0,
            head=main.head,
            head_lr=main.head_lr,
        )
        return Workshop(
            request=self.plan.request,
            store=self.store,
            folder=writable_folder(self.folder / "bases"),
            task=self.plan.task,
            others=self.plan.others,
            full=full,
            layout=main.layout,
        )

    def _row(self, contender: Contender, zeros: Zeros) -> Row:
        layers = self.plan.main.layout.layers
        least = max(contender.least_d, least_d(contender.projection, layers=layers))
        dims = tuple(d for d in self.plan.request.dimensions if least <= d <= contender.most_d)
        results: Zeros = {}
        if dims:
            for name, zero in zeros.items():  # the task comes first
                request = self._in(contender, name, zero, dims)
                if results:
                    request = _at_rates_of(results[self.plan.task.name], request)
                results[name] = self._measured(contender.label, prepare(request))
        return Row(contender=contender, results=results)

    def _in(self, contender: Contender, task: str, zero: DimensionResult, dims: tuple[int, ...]) -> MeasureRequest:
        """Return what is asked in one subspace: d_int at the bar of the zero line."""
        request = asked(self.plan.request, task, contender.model, contender.projection, dims)
        if not contender.seeded:
            request = dataclasses.replace(request, seeds=1)
        if contender.starts:  # its full training would be another one
            bar = zero.bar.get("perplexity", zero.bar["value"])
            return dataclasses.replace(request, bar=f"absolute:{bar!r}")
        return dataclasses.replace(request, reference_lr=request.reference_lr or zero.reference["lr"])

    def _measured(self, label: str, prepared: Prepared) -> DimensionResult:
        return prepared.result(self.engine, _Named(self.progress, f"{label} on {prepared.task.name}"))


def _at_rates_of(found: DimensionResult, request: MeasureRequest) -> MeasureRequest:
    """Return a request at the rates that were found on another task."""
    lr = f"{found.lr_rule['constant']!r}/sqrt(d)" if request.lr == "auto" else request.lr
    return dataclasses.replace(request, lr=lr, reference_lr=request.reference_lr or found.reference["lr"])


class _Named(Progress):
    """Says which subspace is measured before the stage of the measure."""

    def __init__(self, inner: Progress, name: str) -> None:
        self.inner, self.name = inner, name

    def begin(self, stage: str, specs: Sequence[RunSpec], later: Later) -> None:
        """Say what is left."""
        self.inner.begin(f"{self.name}, {stage}", specs, later)

    def advance(self, outcome: Outcome) -> None:
        """Say what is left, and the score."""
        self.inner.advance(outcome)
