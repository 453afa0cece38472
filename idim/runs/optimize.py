"""Descent: optimizers, schedules and batches of one run.

Every number here is a function of the arguments: the data order comes from the generator given, and
nothing is measured along the way that a choice could peek at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from idim.runs.errors import TrainingFailed
from idim.tasks import Recipe, Split

Loss = Callable[[Tensor, Tensor], Tensor]
WINDOW = 50  # batches whose mean loss is reported
MOMENTUM = 0.9


@dataclass(frozen=True)
class Descent:
    """How a training ended: the mean loss of its last batches, and its number of steps."""

    loss: float
    steps: int


def descend(
    module: nn.Module, loss: Loss, rows: Split, *, recipe: Recipe, lr: float, generator: torch.Generator
) -> Descent:
    """Train the parameters of ``module`` that require gradients, in place.

    Raises:
        TrainingFailed: when a loss is not finite.
    """
    if recipe.optimizer == "lbfgs":
        return _lbfgs(module, loss, rows, recipe, lr)
    return _stochastic(module, loss, rows, recipe, lr, generator)


def _stochastic(
    module: nn.Module, loss: Loss, rows: Split, recipe: Recipe, lr: float, generator: torch.Generator
) -> Descent:
    optimizer = _optimizer(module, recipe, lr)
    losses: list[float] = []
    for step, batch in enumerate(batches(len(rows), recipe, generator)):
        optimizer.param_groups[0]["lr"] = lr * decay(recipe, step)
        value = loss(module(rows.inputs[batch]), rows.targets[batch])
        losses.append(_finite(value.item(), step, lr))
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    last = losses[-WINDOW:]
    return Descent(math.fsum(last) / len(last), len(losses))


def _lbfgs(module: nn.Module, loss: Loss, rows: Split, recipe: Recipe, lr: float) -> Descent:
    optimizer = torch.optim.LBFGS(
        trainable(module),
        lr=lr,
        max_iter=recipe.steps,
        max_eval=25 * recipe.steps,
        history_size=100,
        tolerance_grad=1e-12,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )
    losses: list[float] = []

    def closure() -> float:
        optimizer.zero_grad()
        value = loss(module(rows.inputs), rows.targets)
        losses.append(_finite(value.item(), len(losses), lr))
        value.backward()  # type: ignore[no-untyped-call]
        return losses[-1]

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        last = loss(module(rows.inputs), rows.targets).item()
    steps = int(optimizer.state[optimizer.param_groups[0]["params"][0]]["n_iter"])
    return Descent(_finite(last, steps, lr), steps)


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that an optimizer should see."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def _optimizer(module: nn.Module, recipe: Recipe, lr: float) -> torch.optim.Optimizer:
    parameters = trainable(module)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=MOMENTUM, weight_decay=recipe.l2, fused=True)
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, lr=lr, weight_decay=recipe.l2, fused=True)


def decay(recipe: Recipe, step: int) -> float:
    """Return the learning rate at a step (from 0) as a fraction of the first one."""
    if recipe.schedule == "constant":
        return 1.0
    return (1 + math.cos(math.pi * step / recipe.steps)) / 2


def batches(rows: int, recipe: Recipe, generator: torch.Generator) -> Iterator[Tensor | slice]:
    """Yield one batch of row numbers a step: consecutive parts of a fresh permutation each epoch.

    The rows left over at the end of an epoch sit out that epoch. A batch as large as the data is
    all rows, in order.
    """
    size, left = recipe.batch_size, recipe.steps
    if size == 0 or size >= rows:
        yield from (slice(None) for _ in range(left))
        return
    while left:
        epoch = torch.split(torch.randperm(rows, generator=generator), size)
        part = epoch[: min(rows // size, left)]
        yield from part
        left -= len(part)


def _finite(value: float, step: int, lr: float) -> float:
    if not math.isfinite(value):
        raise TrainingFailed(f"the loss must stay finite; received {value} at step {step} with lr {lr:g}")
    return value
