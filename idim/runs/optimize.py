"""Descent: optimizers, schedules and batches of one run.

Every number here is a function of the arguments: the data order comes from the generator given, and
nothing is measured along the way that a choice could peek at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from idim.runs.errors import TrainingFailed
from idim.runs.rows import Rows
from idim.tasks import Recipe

Loss = Callable[[Tensor, Tensor], Tensor]
WINDOW = 50  # batches whose mean loss is reported
MOMENTUM = 0.9
POOL = 32  # batches that share a pool of rows when rows of similar length go together

AfterStep = Callable[[int], None]
Penalty = Callable[[], Tensor | None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """Parameters with a learning rate of their own, such as the fresh last layer of a pretrained network."""

    parameters: Sequence[nn.Parameter]
    lr: float


@dataclass(frozen=True)
class Descent:
    """How a training ended: the mean loss of its last batches, and its number of steps."""

    loss: float
    steps: int


def descend(
    module: nn.Module,
    loss: Loss,
    rows: Rows,
    *,
    recipe: Recipe,
    lr: float,
    generator: torch.Generator,
    groups: Sequence[Group] = (),
    penalty: Penalty | None = None,
    after_step: AfterStep | None = None,
) -> Descent:
    """Train the parameters of ``module`` that require gradients, in place.

    Args:
        module: called with inputs.
        loss: of the outputs and the targets, a mean over rows.
        rows: to train on.
        recipe: optimizer, schedule, batches, steps.
        lr: learning rate, at its highest.
        generator: draws the order of the rows.
        groups: parameters that train at other rates.
        penalty: added to the loss of each batch, but not to the loss that is returned.
        after_step: told the number of steps done, after each; the gradients are still there.

    Raises:
        TrainingFailed: when a loss is not finite.
    """
    if recipe.optimizer == "lbfgs":
        return _lbfgs(module, loss, rows, recipe, lr)
    optimizer = _optimizer(module, recipe, lr, [group for group in groups if group.parameters])
    peaks = [group["lr"] for group in optimizer.param_groups]
    losses: list[float] = []
    for step, batch in enumerate(batches(len(rows), recipe, generator, rows.lengths)):
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * decay(recipe, step)
        optimizer.zero_grad()
        values: list[float] = []
        for value in _parts(module, loss, rows, batch, recipe.accumulate):
            extra = penalty() if penalty is not None and not values else None
            values.append(_finite(value.item(), step, lr))
            (value if extra is None else value + extra).backward()  # type: ignore[no-untyped-call]
        losses.append(math.fsum(values))
        optimizer.step()
        if after_step is not None:
            after_step(step + 1)
    last = losses[-WINDOW:]
    return Descent(math.fsum(last) / len(last), len(losses))


def unmoved(module: nn.Module, loss: Loss, rows: Rows, recipe: Recipe) -> Descent:
    """Return the loss of the first rows, one batch of them, after no step."""
    size = recipe.batch_size or len(rows)
    with torch.no_grad():
        return Descent(loss(module.eval()(rows.inputs[:size]), rows.targets[:size]).item(), 0)


def _parts(module: nn.Module, loss: Loss, rows: Rows, batch: Tensor | slice, parts: int) -> Iterator[Tensor]:
    """Yield the losses of the parts of a batch; their sum is the batch's mean loss."""
    inputs, targets = rows.inputs[batch], rows.targets[batch]
    weights = torch.ones(len(targets), dtype=torch.long) if rows.weights is None else rows.weights[batch]
    whole = max(1, int(weights.sum()))
    for some, wanted, weight in zip(inputs.chunk(parts), targets.chunk(parts), weights.chunk(parts), strict=True):
        value = loss(module(some), wanted)
        yield value if parts == 1 else value * (int(weight.sum()) / whole)


def _lbfgs(module: nn.Module, loss: Loss, rows: Rows, recipe: Recipe, lr: float) -> Descent:
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


def _optimizer(module: nn.Module, recipe: Recipe, lr: float, groups: Sequence[Group]) -> torch.optim.Optimizer:
    apart = {id(parameter) for group in groups for parameter in group.parameters}
    parameters: list[dict[str, object]] = [{"params": [p for p in trainable(module) if id(p) not in apart]}]
    parameters += [{"params": list(group.parameters), "lr": group.lr} for group in groups]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=MOMENTUM, weight_decay=recipe.l2, fused=True)
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, lr=lr, weight_decay=recipe.l2, fused=True)


def decay(recipe: Recipe, step: int) -> float:
    """Return the learning rate at a step (from 0) as a fraction of the highest."""
    rise = round(recipe.warmup * recipe.steps)
    if step < rise:
        return (step + 1) / (rise + 1)
    if recipe.schedule == "constant":
        return 1.0
    return (1 + math.cos(math.pi * (step - rise) / (recipe.steps - rise))) / 2


def batches(
    rows: int, recipe: Recipe, generator: torch.Generator, lengths: Tensor | None = None
) -> Iterator[Tensor | slice]:
    """Yield one batch of row numbers a step: consecutive parts of a fresh permutation each epoch.

    The rows left over at the end of an epoch sit out that epoch. A batch as large as the data is
    all rows, in order. With ``bucketed``, each :data:`POOL` batches of an epoch exchange rows until every batch
    holds rows of similar length, and come in a new order.
    """
    size, left = recipe.batch_size, recipe.steps
    if size == 0 or size >= rows:
        yield from (slice(None) for _ in range(left))
        return
    while left:
        order = torch.randperm(rows, generator=generator)
        epoch: Sequence[Tensor] = torch.split(order, size)[: rows // size]
        if recipe.bucketed and lengths is not None:
            epoch = _bucketed(order[: size * len(epoch)], lengths, size, generator)
        part = epoch[:left]
        yield from part
        left -= len(part)


def _bucketed(order: Tensor, lengths: Tensor, size: int, generator: torch.Generator) -> list[Tensor]:
    found: list[Tensor] = []
    for pool in torch.split(order, POOL * size):
        ranked = pool[lengths[pool].argsort(stable=True)]
        parts = torch.split(ranked, size)
        found += [parts[i] for i in torch.randperm(len(parts), generator=generator).tolist()]
    return found


def _finite(value: float, step: int, lr: float) -> float:
    if not math.isfinite(value):
        raise TrainingFailed(f"the loss must stay finite; received {value} at step {step} with lr {lr:g}")
    return value
