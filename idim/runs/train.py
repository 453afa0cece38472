"""``run``: from a spec to its result, a pure function on one thread."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from idim import models, tasks
from idim.errors import RequestError
from idim.models.init import generator
from idim.parameters import Layout
from idim.runs.errors import TrainingFailed
from idim.runs.optimize import Descent, descend, trainable
from idim.runs.result import RunResult
from idim.runs.spec import RunSpec
from idim.tasks import Recipe, Split, Task

CHUNK = 2048  # rows of one forward pass while scoring


def run(spec: RunSpec, *, data: Path | None = None) -> RunResult:
    """Train and score one spec.

    The score is taken after the last step; no split is looked at before. All computation is on one
    thread, so the same spec gives the same bits in any process on one machine.

    Args:
        spec: what to train.
        data: the data folder, as for :func:`idim.tasks.load`.

    Raises:
        RequestError: when the task cannot be loaded, is not the one the spec was made for, or the
            spec names a model or projection that cannot be built.
        TrainingFailed: when a loss or a coordinate is not finite.
    """
    return train(spec, load_task(spec, data))


def load_task(spec: RunSpec, data: Path | None) -> Task:
    """Return the task of a spec.

    Raises:
        RequestError: when it cannot be loaded, or its data are not those of the spec.
    """
    task = tasks.load(spec.task, data=data)
    if task.fingerprint != spec.fingerprint:
        raise RequestError(
            f"the data of task {spec.task!r} must have the fingerprint {spec.fingerprint} of the spec; "
            f"received {task.fingerprint}"
        )
    return task


def train(spec: RunSpec, task: Task) -> RunResult:
    """Train and score one spec on its loaded task (see :func:`run`)."""
    started = time.perf_counter()
    with _one_thread(), _own_dice(spec.seed):
        model = models.build(spec.model, input_shape=task.input_shape, outputs=task.outputs, seed=spec.seed)
        D = Layout.of(model).D
        dtype = getattr(torch, spec.recipe.precision)
        learner = _learner(spec, model.to(dtype))
        descent = _fit(spec, task, learner, _cast(_training_rows(task, spec.recipe), dtype))
        return RunResult(
            score=_score(spec, task, learner, _cast(task.report, dtype)),
            selection_score=_score(spec, task, learner, _cast(task.selection, dtype)),
            train_loss=descent.loss,
            D=D,
            trained=sum(parameter.numel() for parameter in trainable(learner)),
            steps=descent.steps,
            seconds=time.perf_counter() - started,
        )


def _learner(spec: RunSpec, model: nn.Module) -> nn.Module:
    if spec.projection is None or spec.d is None:
        return model
    from idim.subspace import Subspace

    return Subspace(model, projection=spec.projection, d=spec.d, seed=spec.seed)


def _fit(spec: RunSpec, task: Task, learner: nn.Module, rows: Split) -> Descent:
    order = generator(spec.seed, "order")
    learner.train()
    try:
        return descend(learner, task.loss, rows, recipe=spec.recipe, lr=spec.lr, generator=order)
    except RequestError as error:  # P refuses coordinates that are no longer finite
        raise TrainingFailed(f"training left the finite numbers with lr {spec.lr:g}: {error}") from error


def _score(spec: RunSpec, task: Task, learner: nn.Module, rows: Split) -> float:
    learner.eval()
    try:
        with torch.no_grad():
            outputs = torch.cat([learner(part) for part in torch.split(rows.inputs, CHUNK)])
    except RequestError as error:
        raise TrainingFailed(f"the last step left the finite numbers with lr {spec.lr:g}: {error}") from error
    if not bool(torch.isfinite(outputs).all()):
        raise TrainingFailed(f"the outputs after the last step are not finite with lr {spec.lr:g}")
    return task.score(outputs, rows.targets)


def _training_rows(task: Task, recipe: Recipe) -> Split:
    if recipe.train_on == "train" or task.selection is task.train:
        return task.train
    parts = (task.train, task.selection)
    return Split(inputs=torch.cat([p.inputs for p in parts]), targets=torch.cat([p.targets for p in parts]))


def _cast(rows: Split, dtype: torch.dtype) -> Split:
    return Split(inputs=rows.inputs.to(dtype), targets=_floats_to(rows.targets, dtype))


def _floats_to(values: Tensor, dtype: torch.dtype) -> Tensor:
    return values.to(dtype) if values.is_floating_point() else values


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one torch thread inside: sums do not depend on the machine's number of cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def _own_dice(seed: int) -> Iterator[None]:
    """Let torch's global generator start from ``seed`` inside, and give it back as it was.

    Our own networks never draw from it; dropout and the default initialisation of a user's layers do.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.set_state(generator(seed, "global").get_state())
        yield
