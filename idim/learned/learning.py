r"""Carrying out ``idim subspace``: from a request to a basis, and from a basis to what it holds.

*Trajectory* (DLDR): a training moves in few directions; they are the principal components of its checkpoints
:math:`\theta_0, \theta_1, …`. Training again inside, from the same :math:`\theta_0`, is a run like any other:
``projection: basis:FILE``, with a first-order recipe or with ``optimizer: lbfgs``, a quasi-Newton step of d numbers.
The same directions without the mean taken off are the *lottery subspace* of Larsen et al.

*Deltas*: models tuned from one base on several tasks; their leading directions, and how much of each task the others
know.

Sources: T. Li, L. Tan, Z. Huang, Q. Tao, Y. Liu, X. Huang, "Low Dimensional Trajectory Hypothesis is True: DNNs Can Be
Trained in Tiny Subspaces", 2021, arXiv:2103.11154; B. W. Larsen, S. Fort, N. Becker, S. Ganguli, "How many degrees of
freedom do we need to train deep networks: a loss landscape perspective", 2021, arXiv:2107.05802; G. Ilharco et al.,
"Editing Models with Task Arithmetic", 2022, arXiv:2212.04089 (deltas as vectors).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from idim import models, tasks
from idim.errors import RequestError
from idim.files import writable_folder
from idim.learned.building import Built, build
from idim.learned.cost import Cost, cost_of
from idim.learned.coverage import Coverage, coverage, leave_one_out
from idim.learned.request import DeltasRequest, EvaluateRequest, TrajectoryRequest
from idim.learned.vectors import Vectors, layout_of, open_model
from idim.projections.basis_file import open_basis
from idim.runs import Keep, RunSpec, Serial, Store
from idim.runs.heads import HEAD_LR, usual_head
from idim.runs.store import ARTIFACTS
from idim.spectral.reading.sources import Source
from idim.tasks.overlap import check_unseen


def learn_trajectory(request: TrajectoryRequest) -> Built:
    """Train if there are no checkpoints yet, and write the principal components of a training.

    Raises:
        RequestError: when the request cannot be served, the training fails, or all checkpoints are the same.
    """
    writable_folder(request.out.absolute().parent)
    files, apart, cost = _followed(request)
    sources = [open_model(file) for file in files]
    layout = layout_of(sources[0], include=request.include, exclude=(*request.exclude, *apart))
    vectors = Vectors(sources, base=sources[0], layout=layout, centred=request.centre == "mean")
    return _built(request, vectors, how="trajectory", centre=request.centre, cost=cost)


def _followed(request: TrajectoryRequest) -> tuple[list[Path], tuple[str, ...], Cost | None]:
    """Return the checkpoints, patterns of what is no part of the subspace, and what they cost where that is known."""
    if request.checkpoints:
        return list(request.checkpoints), (), None
    spec = training(request)
    rows = len(tasks.load(spec.task, data=request.data).train)
    return trained(request), set_apart(spec), cost_of([spec], train_rows=rows)


def trained(request: TrajectoryRequest) -> list[Path]:
    """Return the checkpoints of a training, from its initial parameters on.

    Raises:
        RequestError: when the training cannot be made, or fails.
    """
    spec = training(request)
    with Store(request.store or request.out.absolute().parent / "store") as store:
        files = checkpoints(store, spec, steps=spaced(spec.recipe.steps, request.points), data=request.data)
    return files[:-1]  # the last step is the tuned network


def checkpoints(store: Store, spec: RunSpec, *, steps: Sequence[int], data: Path | None) -> list[Path]:
    """Return the files of a training, made now unless the store has them: at its start, after some steps, at its end.

    Raises:
        RequestError: when the training fails.
    """
    keep = Keep(folder=store.path / ARTIFACTS, steps=tuple(steps))
    with Serial(store, data=data, keep=keep) as engine:
        outcome = engine.map([spec])[spec.key]
    if outcome.failed:
        raise RequestError(f"the training that a subspace is learned from must succeed; received: {outcome.message}")
    return [keep.path(spec) / name for name in keep.names(spec)]


def set_apart(spec: RunSpec) -> tuple[str, ...]:
    """Return patterns of the parameters that a training treats apart from those inside the subspace."""
    return () if spec.head == "inside" else (f"{models.HEAD}.*",)


def training(request: TrajectoryRequest) -> RunSpec:
    """Return the training that a trajectory is taken of.

    Raises:
        RequestError: for an unknown task or model.
    """
    assert request.task is not None  # the request has checked them
    assert request.lr is not None
    task = tasks.load(request.task, data=request.data)
    model = models.resolve(task.default_model if request.model is None else request.model)
    asked = {"steps": request.steps, "length": request.length}
    changes: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    if task.recipe.optimizer == "lbfgs":
        raise RequestError(
            f"a trajectory needs an optimizer of single steps; received task {task.name}, whose recipe is L-BFGS: "
            "give checkpoints of your own training"
        )
    head = usual_head(model, task)
    return RunSpec(
        task=task.name,
        fingerprint=task.fingerprint,
        model=model,
        method="full",
        lr=request.lr,
        recipe=dataclasses.replace(task.recipe, **changes),
        seed=request.seed,
        head=head,
        head_lr=HEAD_LR if head == "trained" else None,
    )


def spaced(steps: int, points: int) -> tuple[int, ...]:
    """Return up to so many numbers of steps, evenly spaced, the last of them ``steps``.

    >>> spaced(100, 4), spaced(3, 10)
    ((25, 50, 75, 100), (1, 2, 3))
    """
    count = min(steps, points)
    return tuple(round(steps * (i + 1) / count) for i in range(count))


def learn_deltas(request: DeltasRequest) -> tuple[Built, Coverage]:
    """Write the leading directions of several tasks; return also how much of each the others know.

    Raises:
        RequestError: when the models do not belong together, or did not change.
    """
    writable_folder(request.out.absolute().parent)
    base = open_model(request.base)
    tuned = _opened(request.tuned, base)
    layout = layout_of(base, include=request.include, exclude=request.exclude)
    apart = leave_one_out(Vectors(tuned, base=base, layout=layout), centred=request.centred)
    vectors = Vectors(tuned, base=base, layout=layout, centred=request.centred)
    built = _built(request, vectors, how="deltas", centred=request.centred, cost=None)
    apart.save(request.out.with_suffix(".json"))
    return built, apart


def _built(request: TrajectoryRequest | DeltasRequest, vectors: Vectors, *, cost: Cost | None, **about: Any) -> Built:
    """Write the basis that a request asks for, with what it was learned from and at what cost, where that is known."""
    about |= {"by_layer": request.by_layer} | ({} if cost is None else {"cost": cost.to_json()})
    return build(
        vectors,
        request.out,
        columns=request.columns,
        by_layer=request.by_layer,
        precision=request.precision,
        fits_any=request.fits_any,
        learned=about,
    )


def evaluate(request: EvaluateRequest) -> Coverage:
    """Return how much of what tuning changed is in a basis; write it where the request says.

    Raises:
        RequestError: when basis and models do not belong together.
    """
    _check_unseen(request)
    base = open_model(request.base)
    found = coverage(open_basis(request.basis), base, _opened(request.tuned, base))
    if request.out is not None:
        found.save(request.out)
    return found


def _opened(places: Sequence[Path], base: Source) -> list[Source]:
    return [open_model(place, base=base) for place in places]


def _check_unseen(request: EvaluateRequest) -> None:
    """Refuse tasks as unseen that share rows with those the basis was learned from, where both are named."""
    names = (request.unseen, request.learned_from)
    unseen, seen = ([tasks.load(name, data=request.data) for name in group] for group in names)
    check_unseen(unseen, seen)
