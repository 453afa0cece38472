"""A finished run with the numbers that it trained: from its folder, or trained again from its spec.

A store keeps scores, not tensors. A run is a pure function of its spec, so its z comes back by training it again,
once: it is kept as a folder that :meth:`idim.Subspace.load` reads, with the spec beside it in ``run.json``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from idim.errors import RequestError
from idim.files import write_json
from idim.runs import RunSpec, TrainingFailed
from idim.runs.learner import Bare, learner, network
from idim.runs.spec import LEARNED, STARTED
from idim.runs.train import alone, fit, load_task, weights_folder
from idim.subspace import Subspace
from idim.subspace.stored import RECORD
from idim.tasks import Task
from idim.tasks.metrics import CLASSES

RUN = "run.json"


@dataclass(frozen=True, kw_only=True, eq=False)
class Finished:
    """A trained subspace and what is known of it.

    Attributes:
        spec: the run.
        task: its data.
        space: the network at the trained numbers.
        start: everything trained, by name, before training.
    """

    spec: RunSpec
    task: Task
    space: Subspace
    start: Mapping[str, Tensor]

    @property
    def seeds(self) -> tuple[int, int]:
        """Of the initial values, and of P."""
        return self.spec.seed, self.space.projection.seed


def check(spec: RunSpec, task: Task, *, unseen: bool) -> None:
    """Refuse a run that no bound of this kind is for, before anything trains.

    Args:
        spec: the run.
        task: its data.
        unseen: whether the user says that a learned basis or start owes nothing to these rows.

    Raises:
        RequestError: with the reason.
    """
    if task.metric not in CLASSES:
        raise RequestError(
            f"a bound is on the share of wrong answers, so the task must have classes; received {spec.task!r}, "
            f"scored by {task.metric}: give a run of a classification task"
        )
    if spec.method != "subspace":
        raise RequestError(
            f"a bound needs a run whose trained numbers are few, method 'subspace'; received {spec.method!r}: "
            "all D parameters would be written down, and the bound says nothing"
        )
    learned = LEARNED.search(spec.projection or "") or STARTED.search(spec.model)
    if learned and not unseen:
        raise RequestError(
            "P and theta0 must be fixed before the rows are seen, and a basis or a start is learned from some; "
            f"received {spec.projection!r} and {spec.model!r}: if not from rows of {spec.task!r}, say --unseen"
        )


def finished(spec: RunSpec, folder: Path, *, data: Path | None, unseen: bool = False) -> Finished:
    """Return a run with its trained numbers, from ``folder``, or trained now and kept there.

    Raises:
        RequestError: when the run can have no bound, cannot be made, or is not the one in the folder.
    """
    task = load_task(spec, data)
    check(spec, task, unseen=unseen)
    with alone(spec.seed):
        net = network(spec, task, weights_folder(data))
        _check_statistics(net, spec)
        if (folder / RECORD).is_file():
            space = Subspace.load(folder, net)
        else:
            space = _trained(spec, task, net)
            space.save(folder)
            write_json(folder / RUN, spec.to_json())
    changed = _changed(net, space)
    if changed:
        raise RequestError(
            f"a bound needs a network that moves by its trained numbers alone; received {spec.model!r}, whose buffer "
            f"{changed[0]!r} training has changed"
        )
    return Finished(spec=spec, task=task, space=space, start=_start(net, space))


def spec_in(folder: Path) -> RunSpec | None:
    """Return the run that a folder says it is, or None where it does not say.

    Raises:
        RequestError: when what it says cannot be read.
    """
    path = folder / RUN
    if not path.is_file():
        return None
    try:
        return RunSpec.from_json(json.loads(path.read_text()))
    except (OSError, ValueError, AttributeError) as error:
        raise RequestError(f"{path} must name a run; received: {str(error).splitlines()[0]}") from error


def _trained(spec: RunSpec, task: Task, net: nn.Module) -> Subspace:
    space = learner(spec, net)
    assert isinstance(space, Subspace)
    try:
        fit(spec, task, Bare(space))
    except TrainingFailed as error:
        raise RequestError(f"a run must train as it did before; received d = {spec.d}: {error}") from error
    return space


def _check_statistics(net: nn.Module, spec: RunSpec) -> None:
    for name, module in net.named_modules():
        if getattr(module, "running_mean", None) is not None:
            raise RequestError(
                f"running statistics of the rows are no part of what is written down; received {spec.model!r} with "
                f"those of {name!r}: take a network without BatchNorm"
            )


def _changed(net: nn.Module, space: Subspace) -> list[str]:
    first = dict(net.named_buffers())
    return [name for name, now in space.model.named_buffers() if name in first and not torch.equal(now, first[name])]


def _start(net: nn.Module, space: Subspace) -> dict[str, Tensor]:
    start = {"z": space.projection.initial(space.z.dtype)}
    trained = [name for name, p in space.named_parameters() if p.requires_grad and name != "z"]
    return start | {name: net.get_parameter(name.removeprefix("model.")).detach().clone() for name in trained}
