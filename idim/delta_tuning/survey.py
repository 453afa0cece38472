"""``survey``: tune a network in every way there is, on the same work, and put the ways side by side.

1. *check* – names, sizes, folders, the store, and which methods the network has a place for, before anything trains;
2. *rates* – each method's learning rate, by the same number of trials (:mod:`idim.delta_tuning.rates`);
3. *scores* – each method at its rate, once per seed: report-split score, convergence, and what it changed;
4. *transfer* – where asked: what was tuned on one task, scored on the others;
5. *costs* – memory and time of a step, in processes of their own.

Everything but the costs is a function of finished runs, so a killed survey that is started again goes on from there.

N. Ding et al., Delta Tuning: A Comprehensive Study of Parameter Efficient Methods for Pre-trained Language Models,
2022, arXiv:2203.06904.
"""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Sequence
from pathlib import Path

from idim.delta_tuning import costs, rows, tuning
from idim.delta_tuning.bench import Progress, train
from idim.delta_tuning.cost import Cost
from idim.delta_tuning.progress import shown
from idim.delta_tuning.rates import best_rate
from idim.delta_tuning.report import MethodsReport
from idim.delta_tuning.request import MethodsRequest
from idim.delta_tuning.row import MethodRow
from idim.delta_tuning.transfer import Scores, transfers
from idim.delta_tuning.work import Work, prepare
from idim.files import writable_folder
from idim.runs import Engine, Outcome, workplace
from idim.runs.environment import versions

Found = dict[str, Sequence[Outcome]]


def survey(model: str | None = None, task: str = "digits", **options: object) -> MethodsReport:
    """Put every way of tuning ``model`` on ``task`` side by side.

    Args:
        model: a model's name, as for :func:`idim.measure`; None for the task's default.
        task: a task's name.
        options: the other fields of :class:`~idim.delta_tuning.request.MethodsRequest`.

    Returns:
        One row a method: score, three parameter counts, convergence, memory and time.

    Raises:
        RequestError: when the request cannot be served, before anything trains.
    """
    return run_survey(MethodsRequest(model=model, task=task, **options))  # type: ignore[arg-type]


def output_folder(request: MethodsRequest) -> Path:
    """Return where this request writes: ``out``, or a name made of what is tuned.

    Raises:
        RequestError: for an unknown task.
    """
    return workplace.output_folder(request, before=("methods",))


def run_survey(request: MethodsRequest) -> MethodsReport:
    """Serve a request: train what the store lacks, and return the report without writing it.

    Raises:
        RequestError: when the request cannot be served, before anything trains.
    """
    work = prepare(request)
    out = writable_folder(output_folder(request))
    runs_each = request.rates + request.seeds
    with (
        workplace.opened(request, out) as (_, engine),
        shown(total=len(work.attaching) * runs_each, quiet=request.quiet) as progress,
    ):
        tried = tuning.tuned(work.bench, engine, work.attaching, trials=request.rates, progress=progress)
        found = scored(work, engine, tried, seeds=request.seeds, progress=progress)
    moved = _transfer(request, work, tried, out)
    cells = _costs(request, work, out)
    table = tuple(_row(work, name, tried, found, cells) for name in work.names)
    runs = [outcome for outcomes in found.values() for outcome in outcomes]
    return dataclasses.replace(_report(request, work, table, cells, runs), transfer=moved)


def scored(work: Work, engine: Engine, tried: tuning.Tried, *, seeds: int, progress: Progress) -> Found:
    """Return the trainings that are reported, by method, one a seed."""
    specs = [
        work.bench.reported(name, best_rate(scores), seed) for seed in range(seeds) for name, scores in tried.items()
    ]
    outcomes = train(engine, specs, "scores", progress)
    return {name: outcomes[i :: len(tried)] for i, name in enumerate(tried)}


def _transfer(request: MethodsRequest, work: Work, tried: tuning.Tried, out: Path) -> Scores | None:
    """Score what was tuned on one task on the others, if that is asked for."""
    if not work.among:
        return None
    rates = {name: best_rate(scores) for name, scores in tried.items()}
    return transfers(work.bench, work.among, rates, data=request.data, folder=out, quiet=request.quiet)


def _costs(request: MethodsRequest, work: Work, out: Path) -> tuple[Cost, ...]:
    """Measure what a step costs, as far as asked."""
    if request.costs == "none":
        return ()
    bench = work.bench
    jobs = costs.jobs(bench.task, bench.model, bench.recipe, work.attaching, request.costs)
    return costs.costs_of(jobs, out, quiet=request.quiet)


def _row(work: Work, name: str, tried: tuning.Tried, found: Found, cells: Sequence[Cost]) -> MethodRow:
    if name in work.refused:
        return rows.unattached(name, work.refused[name])
    own = costs.of_recipe(cells, name, work.bench.recipe)
    return rows.trained(name, tried[name], found[name], head=work.head, cost=own)


def _report(
    request: MethodsRequest, work: Work, table: tuple[MethodRow, ...], cells: tuple[Cost, ...], runs: Sequence[Outcome]
) -> MethodsReport:
    """Put everything that defines the numbers beside the numbers."""
    bench = work.bench
    return MethodsReport(
        definition=work.definition,
        model=bench.model,
        task=bench.task.name,
        metric=bench.task.metric,
        split={"learning_rate": "selection", "curve": "selection, at most 512 rows", "report": "report"},
        D=work.D,
        chance=bench.task.chance,
        head=work.head_report,
        recipe=dataclasses.asdict(bench.recipe),
        rates=tuning.in_words(request.rates),
        seeds=tuple(range(request.seeds)),
        rows=table,
        costs=cells,
        environment=costs.environment() if cells else None,
        trainings=len(work.attaching) * (request.rates + request.seeds),
        seconds=round(rows.total_seconds(runs), 1),
        versions={**versions(), "machine": platform.machine()},
    )
