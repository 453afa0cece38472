r"""A trained subspace with its numbers at a few levels, and training that goes on there.

What a run trained is z, and where the head is trained directly, the head. Each is a *part*: its change since the start
is rounded to a codebook of its own. Rounding alone costs accuracy when levels are few. So the rounded numbers can be
trained
on: the network is evaluated at levels, :math:`v_j = c_{a(j)}` with a(j) the level nearest to a hidden number
:math:`w_j`, and a gradient with respect to :math:`v_j` moves both :math:`w_j`, as if rounding were the identity
(*straight through*), and :math:`c_{a(j)}`. Which numbers and levels come out of it is all that a bound pays for; how
they were found is free.

Sources: Y. Bengio, N. Léonard, A. Courville, "Estimating or Propagating Gradients Through Stochastic Neurons", 2013,
arXiv:1308.3432; S. Lotfi et al., 2022, arXiv:2211.13609 (levels trained with z).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from idim.models.init import generator
from idim.runs import RunSpec
from idim.runs.heads import HEAD_LR
from idim.runs.optimize import Group, descend
from idim.runs.rows import Rows
from idim.subspace import Subspace
from idim.tasks import Task
from idim.theory.quantise import Quantised, lloyd, nearest, rounded

LEVEL_RATE = 0.3  # of the rate of z: the gradient of a level is that of many numbers


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Trained tensors that share a codebook.

    Attributes:
        names: of the tensors, as parameters of the Subspace.
        shapes: of the tensors.
        start: their values before training, end to end, [n]: a decoder knows them.
        change: trained values less those, [n].
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    start: Tensor
    change: Tensor

    def unflatten(self, change: Tensor) -> dict[str, Tensor]:
        """Return the tensors by name, changed by so much."""
        sizes = [torch.Size(shape).numel() for shape in self.shapes]
        pieces = torch.split(self.start + change, sizes)
        return {n: piece.view(shape) for n, shape, piece in zip(self.names, self.shapes, pieces, strict=True)}


def parts_of(space: Subspace, start: Mapping[str, Tensor]) -> list[Part]:
    """Return what was trained: z, and where more was, all of that in one part.

    Args:
        space: after training.
        start: values of everything trained before training, by name.
    """
    groups = [["z"], [name for name in start if name != "z"]]
    own = dict(space.named_parameters())
    return [_part({n: own[n].detach() for n in names}, start) for names in groups if names]


def _part(tensors: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> Part:
    first = torch.cat([start[name].float().flatten() for name in tensors])
    last = torch.cat([tensor.float().flatten() for tensor in tensors.values()])
    shapes = tuple(tuple(tensor.shape) for tensor in tensors.values())
    return Part(names=tuple(tensors), shapes=shapes, start=first, change=last - first)


def write(space: Subspace, parts: Sequence[Part], codes: Sequence[Quantised]) -> None:
    """Set what was trained in a subspace to what codes say, in place."""
    own = dict(space.named_parameters())
    with torch.no_grad():
        for part, code in zip(parts, codes, strict=True):
            for name, tensor in part.unflatten(code.values).items():
                own[name].copy_(tensor)


class Rounded(nn.Module):
    """A subspace that is evaluated at levels, and trained straight through them (see the module).

    Args:
        space: what is evaluated; its own parameters are frozen from here on.
        parts: what was trained in it.
        levels: so many for each part, at first.
    """

    def __init__(self, space: Subspace, parts: Sequence[Part], levels: int) -> None:
        super().__init__()
        self.space, self.parts = space.requires_grad_(False), tuple(parts)
        self.hidden = nn.ParameterList(nn.Parameter(part.change.clone()) for part in parts)
        self.levels = nn.ParameterList(nn.Parameter(lloyd(part.change, levels).float()) for part in parts)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the network's answers with its numbers at levels."""
        tensors: dict[str, Tensor] = {}
        for part, hidden, levels in zip(self.parts, self.hidden, self.levels, strict=True):
            ascending = levels.sort().values
            change = ascending[nearest(hidden.detach(), ascending.detach())] + (hidden - hidden.detach())
            tensors |= part.unflatten(change)
        answers: Tensor = torch.func.functional_call(self.space, tensors, inputs)
        return answers

    def codes(self) -> list[Quantised]:
        """Return the numbers at their levels, these in float16."""
        return [rounded(hidden, levels) for hidden, levels in zip(self.hidden, self.levels, strict=True)]


def tuned(
    space: Subspace, parts: Sequence[Part], levels: int, *, spec: RunSpec, task: Task, rows: Rows, steps: int, lr: float
) -> list[Quantised]:
    """Return the parts at levels after training through them, from where the run ended.

    Args:
        space: to evaluate.
        parts: what the run trained.
        levels: of each part.
        spec: the run, whose recipe is followed (with Adam where that has no single steps).
        task: whose loss is lowered.
        rows: to train on.
        steps: of the optimizer.
        lr: of z at the first step; a head that has its own keeps it.

    Raises:
        TrainingFailed: when a loss is not finite.
    """
    module = Rounded(space, parts, levels).train()
    optimizer = "adam" if spec.recipe.optimizer == "lbfgs" else spec.recipe.optimizer
    descend(
        module,
        task.loss,
        rows,
        recipe=dataclasses.replace(spec.recipe, optimizer=optimizer, steps=steps),
        lr=lr,
        generator=generator(spec.seed, "rounding"),
        groups=_groups(module, lr, spec.head_lr or HEAD_LR),
    )
    return module.codes()


def _groups(module: Rounded, lr: float, head_lr: float) -> list[Group]:
    rates = [lr, *[head_lr] * (len(module.parts) - 1)]
    hidden = [Group(parameters=[w], lr=rate) for w, rate in zip(module.hidden, rates, strict=True)]
    return hidden + [Group(parameters=[c], lr=LEVEL_RATE * rate) for c, rate in zip(module.levels, rates, strict=True)]
