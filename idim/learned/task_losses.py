"""The losses of many tasks on one network, whose numbers of a method come from elsewhere, such as a decoder.

The network is in memory once. For a batch of a task, its head is the task's own, and the method's numbers are
those given; both are put in for one call (``torch.func.functional_call``), so that gradients reach what they come from.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.func import functional_call

from idim.learned.autoencoder import TaskLoss
from idim.learned.tunings import Plan
from idim.models.init import generator
from idim.parameters import Layout, choose
from idim.runs.learner import HEAD, network
from idim.runs.optimize import batches
from idim.runs.rows import Rows, training_rows
from idim.runs.train import weights_folder
from idim.tasks import Task

Batch = tuple[Tensor, Tensor]


class TaskLosses:
    """The training losses of tasks, which have their heads.

    Args:
        plan: how the tasks are tuned.
        tasks: the tasks.
        data: the data folder.

    Raises:
        RequestError: when the network or the method cannot be had.
    """

    def __init__(self, plan: Plan, tasks: Sequence[Task], data: Path | None = None) -> None:
        self.plan, self.tasks = plan, tuple(tasks)
        specs = [plan.tuning(task) for task in tasks]
        self.network = network(specs[0], tasks[0], weights_folder(data))
        inside = choose(self.network, exclude=HEAD).inside
        self.numbers = {name: p.detach().clone() for name, p in inside.items()}
        self.layout = Layout.of(self.numbers)
        self.network.requires_grad_(False)
        self.heads = [_head(plan, task, data) for task in tasks]
        self.rows = [training_rows(spec, task) for spec, task in zip(specs, tasks, strict=True)]

    def losses(self, rounds: int, seed: int) -> TaskLoss:
        """Return the loss of task k with its numbers changed by a vector [D]; each call takes the task's next batch."""
        streams = [self._batches(rows, task, rounds, seed) for rows, task in zip(self.rows, self.tasks, strict=True)]

        def loss(k: int, change: Tensor) -> Tensor:
            inputs, targets = next(streams[k])
            answer = functional_call(self.network, {**self._changed(change), **self.heads[k]}, (inputs,))
            return self.tasks[k].loss(answer, targets)

        return loss

    def _changed(self, change: Tensor) -> dict[str, Tensor]:
        parts = torch.split(change, list(self.layout.sizes))
        pairs = zip(self.numbers.items(), parts, strict=True)
        return {name: start + part.view(start.shape) for (name, start), part in pairs}

    def _batches(self, rows: Rows, task: Task, rounds: int, seed: int) -> Iterator[Batch]:
        recipe = dataclasses.replace(self.plan.recipe_of(task), steps=max(1, rounds))
        draw = generator(seed, f"task losses/{task.name}")
        chosen = itertools.islice(batches(len(rows), recipe, draw, rows.lengths), rounds)
        return ((rows.inputs[batch], rows.targets[batch]) for batch in chosen)


def _head(plan: Plan, task: Task, data: Path | None) -> dict[str, Tensor]:
    """Return the numbers of a task's head, by their names in the network."""
    if plan.heads == "probe":
        return load_file(plan.head_file(task))
    net = network(plan.tuning(task), task, weights_folder(data))
    return {name: p.detach() for name, p in choose(net, include=HEAD).inside.items()}
