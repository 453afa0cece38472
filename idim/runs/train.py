"""``run``: from a spec to its result, a pure function on one thread."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from idim import methods, tasks
from idim.errors import RequestError
from idim.methods import Attached
from idim.models.init import generator
from idim.runs import anatomy
from idim.runs.artifacts import BASE, TUNED, Keep, step_name
from idim.runs.curve import Curve
from idim.runs.errors import TrainingFailed
from idim.runs.learner import Bare, attached, groups, native, network, tensors
from idim.runs.optimize import AfterStep, Descent, descend, trainable, unmoved
from idim.runs.result import RunResult
from idim.runs.rows import Rows, rows_of, training_rows
from idim.runs.spec import PLAIN, RunSpec
from idim.tasks import Task
from idim.tasks.folder import data_folder

Write = Callable[[str, nn.Module], None]
CHUNK = 2048  # rows of one forward pass while scoring
TEXT_CHUNK = 64  # the same where rows are texts, shortest first
WEIGHTS = "IDIM_MODELS"  # the folder of pretrained networks; else the folder "models" beside the data


def run(spec: RunSpec, *, data: Path | None = None, keep: Keep | None = None) -> RunResult:
    """Train and score one spec.

    The score is taken after the last step; no split is looked at before, but for the rows of a curve. All
    computation is on one thread, so the same spec gives the same bits in any process on one machine.

    Args:
        spec: what to train.
        data: the data folder, as for :func:`idim.tasks.load`.
        keep: which tensors to write; none by default.

    Raises:
        RequestError: when the task cannot be loaded, is not the one the spec was made for, or the
            spec names a model or projection that cannot be built.
        TrainingFailed: when a loss or a coordinate is not finite.
    """
    return train(spec, load_task(spec, data), weights=weights_folder(data), keep=keep)


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


def weights_folder(data: Path | None) -> Path:
    """Return the folder of pretrained networks that is in force (it need not exist)."""
    named = os.environ.get(WEIGHTS)
    return Path(named) if named else data_folder(data).absolute().parent / "models"


def train(spec: RunSpec, task: Task, *, weights: Path | None = None, keep: Keep | None = None) -> RunResult:
    """Train and score one spec on its loaded task (see :func:`run`); ``weights`` as for :func:`idim.models.build`."""
    started = time.perf_counter()
    with alone(spec.seed):
        model = network(spec, task, weights)
        D = native(spec, model)
        base = anatomy.body_state(model) if spec.anatomy else None
        write = _writer(spec, keep)
        write(BASE, model)
        learned = attached(spec, model)
        module = learned.module
        curve = Curve(spec, task, lambda rows: score(spec, task, module, rows))

        def after_step(step: int) -> None:
            learned.after_step(step)
            curve.after_step(step, module)
            write(step_name(step), module)

        descent = fit(spec, task, learned, after_step=after_step)
        result = RunResult(
            score=score(spec, task, module, rows_of(spec, task.report)),
            selection_score=score(spec, task, module, rows_of(spec, task.selection)),
            train_loss=descent.loss,
            D=D,
            trained=sum(parameter.numel() for parameter in trainable(module)),
            steps=descent.steps,
            curve=tuple(curve.points),
            seconds=0.0,
        )
        found = None if base is None and keep is None else _looked_at(spec, learned, base, write)
    return dataclasses.replace(result, anatomy=found, seconds=time.perf_counter() - started)


def _looked_at(spec: RunSpec, learned: Attached, base: anatomy.State | None, write: Write) -> dict[str, Any] | None:
    """Write the tuned network and return its anatomy; the method is off it then."""
    method = None if spec.method in PLAIN else methods.parse(spec.method)
    merges = method is None or method.merges
    sizes, origin = anatomy.sizes(method, learned), learned.origin()
    if not merges:
        write(TUNED, learned.module)
    network = anatomy.plain(method, learned)
    if merges:
        write(TUNED, network)
    if base is None:
        return None
    changes = anatomy.changes(base | origin, network, merges=merges)
    sizes["stored_bytes"] += changes.pop("buffer_bytes")
    return sizes | changes


def _writer(spec: RunSpec, keep: Keep | None) -> Write:
    """Return what writes a network's tensors under a name, if that name is to be kept."""
    names = frozenset(() if keep is None else keep.names(spec))

    def write(name: str, module: nn.Module) -> None:
        if keep is not None and name in names:
            keep.write(spec, name, tensors(module))

    return write


def fit(spec: RunSpec, task: Task, learned: Attached | nn.Module, *, after_step: AfterStep | None = None) -> Descent:
    """Train what requires gradients in a module, or in one with a method on it, as a spec says, in place.

    Raises:
        TrainingFailed: when a loss or a coordinate is not finite.
    """
    learned = learned if isinstance(learned, Attached) else Bare(learned)
    module = learned.module
    rows = training_rows(spec, task)
    if spec.method == "untuned":
        return unmoved(module, task.loss, rows, spec.recipe)
    module.train()
    try:
        return descend(
            module,
            task.loss,
            rows,
            recipe=spec.recipe,
            lr=spec.lr,
            generator=generator(spec.seed, "order"),
            groups=groups(spec, learned),
            penalty=learned.penalty,
            after_step=after_step,
        )
    except RequestError as error:  # P refuses coordinates that are no longer finite
        raise TrainingFailed(f"training left the finite numbers with lr {spec.lr:g}: {error}") from error


def score(spec: RunSpec, task: Task, module: nn.Module, rows: Rows) -> float:
    """Return the task's metric over rows, at what ``module`` is now.

    Raises:
        TrainingFailed: when an answer is not finite.
    """
    module.eval()
    try:
        with torch.no_grad():
            outputs = _outputs(module, rows)
    except RequestError as error:
        raise TrainingFailed(f"the last step left the finite numbers with lr {spec.lr:g}: {error}") from error
    if not bool(torch.isfinite(outputs).all()):
        raise TrainingFailed(f"the outputs after the last step are not finite with lr {spec.lr:g}")
    return task.score(outputs, rows.targets)


def _outputs(module: nn.Module, rows: Rows) -> Tensor:
    """Return the network's answers, [n, outputs], in the order of the rows."""
    if rows.lengths is None:
        return torch.cat([module(part) for part in torch.split(rows.inputs, CHUNK)])
    order = rows.lengths.argsort(stable=True)
    answers = torch.cat([module(rows.inputs[part]) for part in torch.split(order, TEXT_CHUNK)])
    return torch.empty_like(answers).index_copy_(0, order, answers)


@contextlib.contextmanager
def alone(seed: int) -> Iterator[None]:
    """Compute on one thread, with torch's global generator started from ``seed``, inside."""
    with _one_thread(), _own_dice(seed):
        yield


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
