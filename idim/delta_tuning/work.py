"""What a request comes to, checked before anything trains: the network, the task, the methods it has a place for."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from torch import nn

from idim import models, tasks
from idim.delta_tuning import places
from idim.delta_tuning.bench import Bench, recipe_for
from idim.delta_tuning.chosen import chosen, named
from idim.delta_tuning.request import MethodsRequest
from idim.delta_tuning.transfer import others
from idim.runs.heads import HEAD_LR
from idim.runs.learner import network
from idim.runs.train import weights_folder
from idim.tasks import Task


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is going to be done.

    Attributes:
        bench: makes the specs.
        D, head: parameters of the network, and of its fresh last layer alone.
        names: all methods of the table, in its order.
        refused: why some of them are not trained.
        among: tasks of the transfer between tasks, this one first; none where it is not asked for.
    """

    bench: Bench
    D: int
    head: int
    names: tuple[str, ...]
    refused: dict[str, str]
    among: tuple[Task, ...] = ()

    @property
    def attaching(self) -> tuple[str, ...]:
        """The methods that are trained."""
        return tuple(name for name in self.names if name not in self.refused)

    @property
    def definition(self) -> str:
        """What the scores are, in words."""
        recipe, task = self.bench.recipe, self.bench.task
        head = f", beside a fresh last layer at {self.bench.head_lr:g}" if self.bench.headed else ""
        metric = "minus the logarithm of the perplexity" if task.next_token else task.metric
        return (
            f"{metric} on the report split of {task.name} after {recipe.steps:,} steps of {recipe.optimizer} on "
            f"batches of {recipe.batch_size or 'all rows'}, the same batches for every method{head}; "
            "mean and sd over seeds of initialisation and data order"
        )

    @property
    def head_report(self) -> dict[str, Any] | None:
        """How the head is trained."""
        return {"numbers": self.head, "lr": self.bench.head_lr} if self.bench.headed else None


def prepare(request: MethodsRequest) -> Work:
    """Return what a request comes to.

    Raises:
        RequestError: for a task, model or method that cannot be had, or a method by name that does not attach.
    """
    names = chosen(request)
    bench, base = _bench(request)
    fit = places.fit(names, base, steps=bench.recipe.steps)
    places.check_asked(named(request), fit)
    head = sum(p.numel() for p in base.get_submodule(models.HEAD).parameters()) if bench.headed else 0
    D = sum(p.numel() for p in base.parameters())
    asked = [name.strip() for name in request.transfer_from.split(",")] if request.transfer_from else []
    among = others(asked, bench.task, request.data) if asked else ()
    return Work(bench=bench, D=D, head=head, names=names, refused=fit.refused, among=among)


def _bench(request: MethodsRequest) -> tuple[Bench, nn.Module]:
    """Return the bench, and the network at its first seed."""
    task = tasks.load(request.task, data=request.data)
    recipe = recipe_for(request, task)
    bench = Bench(
        task=task,
        model=models.resolve(task.default_model if request.model is None else request.model),
        recipe=recipe,
        headed=False,
        head_lr=HEAD_LR if request.head_lr is None else request.head_lr,
        evaluations=0 if recipe.optimizer == "lbfgs" else min(request.evaluations, recipe.steps),
    )
    base = network(bench.trial("full", 1.0), task, weights_folder(request.data))
    return dataclasses.replace(bench, headed=models.has_head(base)), base
