"""What a comparison is going to do, checked before anything trains: tasks, shapes, overlaps, kinds and dims."""

from __future__ import annotations

from dataclasses import dataclass

from idim import tasks
from idim.comparison.finding import TRAINED, ZERO, check_kind
from idim.comparison.request import CompareRequest
from idim.dimension.measure import Prepared, prepare
from idim.dimension.request import MeasureRequest
from idim.errors import RequestError
from idim.tasks import Task
from idim.tasks.overlap import check_unseen


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A request that has been checked.

    Attributes:
        request: what was asked.
        task: what subspaces are found for.
        unseen: tasks that they are used on besides.
        others: tasks that deltas are learned from.
        zero: the measure of the zero line, by task.
    """

    request: CompareRequest
    task: Task
    unseen: tuple[Task, ...]
    others: tuple[Task, ...]
    zero: dict[str, Prepared]

    @property
    def main(self) -> Prepared:
        """The zero line on the task."""
        return self.zero[self.task.name]


def planned(request: CompareRequest) -> Plan:
    """Check a request as far as that goes without training.

    Raises:
        RequestError: when it cannot be served.
    """
    named = [[tasks.load(n, data=request.data) for n in names] for names in (request.held_out, request.tuned_on)]
    task, (unseen, others) = tasks.load(request.task, data=request.data), named
    for other in (*unseen, *others):
        _check_shape(task, other)
    check_unseen(unseen, [task, *others])
    check_unseen(others, [task])
    for kind in request.wanted:
        check_kind(kind, task.recipe.optimizer)
    model = request.model or task.default_model
    zero = {t.name: prepare(asked(request, t.name, model, ZERO, request.dimensions)) for t in (task, *unseen)}
    steps = zero[task.name].protocol.recipe.steps
    if request.burn_in is not None and request.burn_in >= steps:
        raise RequestError(f"burn_in must be less than the {steps} steps of full training; received {request.burn_in}")
    _check_rate(request, zero[task.name])
    return Plan(request=request, task=task, unseen=tuple(unseen), others=tuple(others), zero=zero)


def _check_rate(request: CompareRequest, zero: Prepared) -> None:
    """Refuse subspaces of a full training whose rate nothing will say."""
    trained = [kind for kind in request.wanted if kind in TRAINED]
    if trained and not zero.bar.relative and zero.protocol.full_lr is None:
        raise RequestError(
            f"kind {trained[0]!r} needs a rate of full training, and with the bar {zero.bar} none is tuned; received "
            "no reference_lr: give one, or a relative bar"
        )


def asked(request: CompareRequest, task: str, model: str, projection: str, dims: tuple[int, ...]) -> MeasureRequest:
    """Return what a comparison asks of a measure: the engine is the comparison's own."""
    return MeasureRequest(
        task=task,
        model=model,
        projection=projection,
        bar=request.bar,
        dims=",".join(map(str, dims)),
        seeds=request.seeds,
        reference_seeds=request.reference_seeds,
        lr=request.lr,
        reference_lr=request.reference_lr,
        steps=request.steps,
        engine="serial",
        data=request.data,
        quiet=True,
    )


def _check_shape(task: Task, other: Task) -> None:
    mine, theirs = (task.input_shape, task.outputs), (other.input_shape, other.outputs)
    if mine != theirs:
        raise RequestError(
            f"other tasks must have the shape of {task.name}, rows {list(mine[0])} and {mine[1]} outputs; received "
            f"{other.name} with {list(theirs[0])} and {theirs[1]}"
        )
