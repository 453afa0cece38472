"""Many tasks, tuned alike from one start: what is learned from, and what is learned for.

The head of a task is frozen, so that the numbers of a method, or of a subspace of them, are all that is learned. It is

- that of a linear *probe* of the task, trained first: what is learned beside it is what the probe lacks; or
- a *fresh* one, random and the same for all tasks of as many classes: what is learned does all of the work.

From there

- a *tuning* trains the numbers of the method (a soft prompt, LoRA), D of them, from the same values on every task;
- a run *inside* trains d coordinates of a subspace of them;
- a run *over the weights* trains d coordinates of a subspace of the network's body;
- *full* tuning moves the whole network, head included.

All are runs of :mod:`idim.runs`, so a store keeps them. (Qin et al. 2021, arXiv:2110.07867, have no head: their network
answers in words, which a fresh head resembles.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file
from torch import Tensor

from idim import models
from idim.errors import RequestError
from idim.models.started import BODY
from idim.parameters import Layout, choose, digest
from idim.runs import Keep, RunSpec
from idim.runs.artifacts import BASE, TUNED
from idim.runs.heads import HEAD_LR
from idim.runs.learner import HEAD, network
from idim.runs.train import weights_folder
from idim.tasks import Recipe, Task, Texts

Heads = Literal["probe", "fresh"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How every task is probed and tuned.

    Args:
        model: the network's name, with the hashes of its files.
        method: the method's name, as for :func:`idim.methods.parse`.
        recipe: of all trainings but the probe's; its length is that of single texts.
        pair_length: tokens after which a pair of texts is cut.
        probe_steps, probe_lr: of the linear probe.
        lr: learning rate of the method's numbers.
        full_lr: learning rate of full tuning.
        heads: which frozen head a task has.
        seed: of all of them.
        artifacts: the folder ``artifacts`` of the store.
    """

    model: str
    method: str
    recipe: Recipe
    pair_length: int
    probe_steps: int
    probe_lr: float
    lr: float
    full_lr: float = 1e-4
    heads: Heads = "probe"
    seed: int = 0
    artifacts: Path

    def probe(self, task: Task) -> RunSpec:
        """Return the training of the head alone."""
        recipe = dataclasses.replace(self.recipe_of(task), steps=self.probe_steps)
        return self._spec(
            task, self.model, "probe", self.probe_lr, recipe=recipe, head="trained", head_lr=self.probe_lr
        )

    @property
    def keep_heads(self) -> Keep:
        """What is kept of probes."""
        return Keep(folder=self.artifacts, only=(HEAD,))

    def head_file(self, task: Task) -> Path:
        """Return the file of a probe's head."""
        return self.artifacts / self.probe(task).key / TUNED

    def tuning(self, task: Task) -> RunSpec:
        """Return the tuning of a task, whose head is there."""
        return self._spec(task, f"with:{self.method}:{self.started(task)}", "full", self.lr, head="frozen")

    def full(self, task: Task) -> RunSpec:
        """Return full tuning of a task, whose head is there."""
        return self._spec(task, self.started(task), "full", self.full_lr, head="trained", head_lr=HEAD_LR)

    def inside(self, task: Task, projection: str, d: int, lr: float) -> RunSpec:
        """Return a training of d coordinates in place of the method's numbers."""
        return dataclasses.replace(self.tuning(task), method="subspace", projection=projection, d=d, lr=lr)

    def over_weights(self, task: Task, projection: str, d: int, lr: float) -> RunSpec:
        """Return a training of d coordinates of a subspace of the network's body."""
        return self._spec(task, self.started(task), "subspace", lr, head="frozen", projection=projection, d=d)

    def started(self, task: Task) -> str:
        """Return the name of the network with the head of the task.

        Raises:
            RequestError: when it is a probe's and there is no probe.
        """
        if self.heads == "fresh":
            return self.model
        return models.resolve(f"head:{self.head_file(task)}:{self.model}")

    def recipe_of(self, task: Task) -> Recipe:
        """Return the recipe of a task: pairs of texts are longer."""
        pairs = isinstance(task.train.inputs, Texts) and task.train.inputs.second is not None
        return dataclasses.replace(self.recipe, length=self.pair_length) if pairs else self.recipe

    def _spec(self, task: Task, model: str, method: str, lr: float, **options: object) -> RunSpec:
        fields = {"recipe": self.recipe_of(task), **options}
        return RunSpec(
            task=task.name,
            fingerprint=task.fingerprint,
            model=model,
            method=method,
            lr=lr,
            seed=self.seed,
            **fields,  # type: ignore[arg-type]
        )


def start(plan: Plan, task: Task, data: Path | None = None) -> dict[str, Tensor]:
    """Return the method's numbers before they are tuned, by name.

    Raises:
        RequestError: when the network or the method cannot be had.
    """
    spec = plan.tuning(task)
    net = network(spec, task, weights_folder(data))
    return {name: p.detach() for name, p in choose(net, exclude=HEAD).inside.items()}


def keep_tunings(plan: Plan, numbers: dict[str, Tensor]) -> Keep:
    """Return what is kept of tunings: the method's numbers alone."""
    return Keep(folder=plan.artifacts, only=tuple(_filed(name) for name in numbers))


def changes(folders: Sequence[Path], numbers: dict[str, Tensor]) -> Tensor:
    """Return what tuning changed on every task: [T, D].

    Args:
        folders: of the runs, each with the numbers before and after.
        numbers: the numbers before, by name, as all tasks must have them.

    Raises:
        RequestError: for tunings of another network, method or length, or from other values.
    """
    layout = Layout.of(numbers)
    before, rows = digest(numbers), []
    for folder in folders:
        first, last = ({n: _tensor(folder / file, n) for n in numbers} for file in (BASE, TUNED))
        if digest(first) != before:
            shapes = [[list(t.shape) for t in named.values()][:1] for named in (numbers, first)]
            raise RequestError(
                f"tunings must start from the same numbers; received other ones in {folder / BASE}, "
                f"shapes {shapes[1]} where {shapes[0]} are wanted: tune all tasks with one network, method and seed"
            )
        ends = [torch.cat(layout.flatten(named)) for named in (last, first)]
        rows.append(ends[0] - ends[1])
    return torch.stack(rows)


def _tensor(file: Path, name: str) -> Tensor:
    tensors = load_file(file)
    if _filed(name) not in tensors:
        raise RequestError(f"tunings must be of one method; received {file} without {_filed(name)!r}")
    return tensors[_filed(name)]


def _filed(name: str) -> str:
    """Return the name of a tensor in the files of runs."""
    return name.removeprefix(BODY)
