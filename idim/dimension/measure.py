r"""``measure``: from a model and a task to the intrinsic dimension with its interval.

The flow, checked here and carried out by :mod:`idim.dimension.procedure`:

1. *check* — names, sizes, folders and the store, before anything trains;
2. *reference* — where the bar is relative: full training, its rate tuned, once per seed;
3. *rate* — the constant of lr(d) = c/√d (:mod:`idim.dimension.rates`), tuned at a pilot d near
   √D, and again where a first rough search finds the crossing, if that is far away;
4. *search* — :mod:`idim.dimension.search` proposes points until the interval is narrow;
5. *estimate* — :mod:`idim.dimension.estimate`.

Everything is a function of finished runs, so a killed measure that is started again reads what
the store has and goes on to the same report.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from idim import models, projections, tasks
from idim.dimension.bar import Bar
from idim.dimension.bench import Bench
from idim.dimension.procedure import Procedure
from idim.dimension.progress import Progress, shown
from idim.dimension.protocols import Protocol, protocol_for
from idim.dimension.request import MeasureRequest
from idim.dimension.result import DimensionResult
from idim.errors import RequestError
from idim.files import writable_folder
from idim.parameters import Layout, choose
from idim.runs import Engine, networks, workplace
from idim.runs.heads import HEAD_LR, usual_head
from idim.runs.learner import in_precision
from idim.runs.rows import check_texts
from idim.runs.spec import Head
from idim.runs.train import weights_folder
from idim.tasks import Task


def measure(model: str | None = None, task: str = "digits", **options: object) -> DimensionResult:
    """Measure the intrinsic dimension of ``model`` on ``task``.

    Args:
        model: a model's name (``mlp:200,200``, ``lenet``) or a function of yours (``net.py:build``, see
            :mod:`idim.models.user`); None for the task's default.
        task: a task's name (``digits``, ``mnist``, ``csv:FILE``, ``lm:txt:FILE``; :mod:`idim.tasks` has them all).
        options: the other fields of :class:`~idim.dimension.request.MeasureRequest`.

    Returns:
        The estimate, its 95 % interval, the curve, and the definition it belongs to.

    Raises:
        RequestError: when the request cannot be served, before anything trains.
    """
    return run_measure(MeasureRequest(model=model, task=task, **options))  # type: ignore[arg-type]


def output_folder(request: MeasureRequest) -> Path:
    """Return where this request writes: ``out``, or a name made of what is measured.

    Raises:
        RequestError: for an unknown task.
    """
    protocol = () if request.protocol == "default" else (request.protocol,)
    return workplace.output_folder(request, after=(request.projection, *protocol))


def run_measure(request: MeasureRequest) -> DimensionResult:
    """Serve a request: train what the store lacks, and return the result without writing it.

    Raises:
        RequestError: when the request cannot be served, before anything trains.
    """
    prepared = prepare(request)
    out = writable_folder(output_folder(request))
    with workplace.opened(request, out) as (_, engine), shown(quiet=request.quiet) as progress:
        return prepared.result(engine, progress)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A measure that has been checked and can start.

    Attributes:
        request: what was asked, its projection named by the hash of its file where it has one.
        task, model: what is learned, and by what.
        bar: the score to reach.
        head, head_lr: what becomes of a fresh last layer.
        layout: the parameters inside the subspace.
        d_min, d_max: the range of d.
    """

    request: MeasureRequest
    task: Task
    model: str
    bar: Bar
    head: Head
    head_lr: float | None
    layout: Layout
    d_min: int
    d_max: int

    @property
    def protocol(self) -> Protocol:
        """How each run trains."""
        return protocol_for(self.request, self.task)

    def result(self, engine: Engine, progress: Progress) -> DimensionResult:
        """Train what the engine's store lacks, and return the answer."""
        bench = Bench(
            self.task, self.model, self.request.projection, self.protocol, engine, progress, self.head, self.head_lr
        )
        return Procedure(self.request, bench, self.bar, self.layout.D, self.d_min, self.d_max).result()


def prepare(request: MeasureRequest) -> Prepared:
    """Check a request as far as that goes without training.

    Raises:
        RequestError: when it cannot be served.
    """
    task = tasks.load(request.task, data=request.data)
    model = models.resolve(task.default_model if request.model is None else request.model)
    request = dataclasses.replace(request, projection=projections.resolve(request.projection))
    bar = Bar.parse(task.default_bar if request.bar is None else request.bar, metric=task.metric)
    head, head_lr = head_of(request, task, model)
    layout = Layout.of(_inside(request, task, model, head, seed=0))
    d_min, d_max = _d_range(request, layout)
    _check_fit(request, task, model, head, layout, d_min)
    return Prepared(
        request=request, task=task, model=model, bar=bar, head=head, head_lr=head_lr, layout=layout, d_min=d_min,
        d_max=d_max,
    )  # fmt: skip


def head_of(request: MeasureRequest, task: Task, model: str) -> tuple[Head, float | None]:
    """Return what becomes of the head, and its learning rate where it is trained directly.

    Raises:
        RequestError: for a rate of a head that is not trained directly.
    """
    head: Head = usual_head(model, task) if request.head == "auto" else request.head
    if head == "trained":
        return head, HEAD_LR if request.head_lr is None else request.head_lr
    if request.head_lr is not None:
        raise RequestError(f"head_lr needs head 'trained'; received head {head!r} for model {model!r}")
    return head, None


def _inside(request: MeasureRequest, task: Task, model: str, head: Head, *, seed: int) -> dict[str, nn.Parameter]:
    """Return the parameters that P moves, by name.

    Raises:
        RequestError: when the network cannot be built, or has no head to treat apart.
    """
    weights = weights_folder(request.data)
    net = networks.build(
        model,
        input_shape=task.input_shape,
        outputs=task.outputs,
        seed=seed,
        weights=weights,
        next_token=task.next_token,
    )
    net = in_precision(net, protocol_for(request, task).recipe.precision)
    check_texts(model, task, task.recipe.length if request.length is None else request.length)
    if head == "inside":
        return choose(net).inside
    if not models.has_head(net):
        raise RequestError(
            f"head {head!r} needs a network with a module named {models.HEAD!r}; received {model!r}: use --head inside"
        )
    return choose(net, exclude=f"{models.HEAD}.*").inside


def _d_range(request: MeasureRequest, layout: Layout) -> tuple[int, int]:
    """Return the smallest d there can be and the largest d to try, proving that P exists over what is tried."""
    d_min = projections.least_d(request.projection, layers=layout.layers)
    d_max = request.d_max or projections.most_d(request.projection, D=layout.D, layers=layout.layers)
    ends = (request.dimensions[0], request.dimensions[-1]) if request.dimensions else (d_min, d_max)
    for d in ends:
        projections.create(request.projection, D=layout.D, d=d, seed=0, layers=layout.layers)
    return d_min, ends[1]


def _check_fit(request: MeasureRequest, task: Task, model: str, head: Head, layout: Layout, d: int) -> None:
    """Refuse a basis that does not fit the network of every seed, before anything trains.

    Raises:
        RequestError: naming the seed.
    """
    P = projections.create(request.projection, D=layout.D, d=d, seed=0, layers=layout.layers)
    if not P.learned:
        return
    for seed in range(request.seeds):
        try:
            P.fitted(_inside(request, task, model, head, seed=seed))
        except RequestError as error:
            raise RequestError(
                f"{error} (seed {seed}; --seeds {seed} leaves it out)" if seed else str(error)
            ) from error
