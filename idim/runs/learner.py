"""What is trained in a run: the network itself, a subspace around it, a method on it; and its head."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from idim import methods, models
from idim.errors import RequestError
from idim.methods import Attached, Setting
from idim.models import tuned_by
from idim.runs import networks
from idim.runs.optimize import Group
from idim.runs.spec import PLAIN, RunSpec
from idim.tasks import Task

HEAD = f"{models.HEAD}.*"
OF_HEAD = (f"{models.HEAD}.", f"model.{models.HEAD}.")
"""How names of the head's parameters begin, in a network and in a module around it."""


def network(spec: RunSpec, task: Task, weights: Path | None) -> nn.Module:
    """Return the network of a spec at its initial parameters, in the spec's precision.

    Raises:
        RequestError: when it cannot be built, or has no head of its own where the spec treats one apart.
    """
    model = networks.build(
        spec.model,
        input_shape=task.input_shape,
        outputs=task.outputs,
        seed=spec.seed,
        dropout=spec.recipe.dropout,
        weights=weights,
        next_token=task.next_token,
    )
    if spec.head != "inside" and not models.has_head(model):
        raise RequestError(
            f"head {spec.head!r} needs a network with a module named {models.HEAD!r}, as pretrained ones have; "
            f"received {spec.model!r}: use head inside"
        )
    return in_precision(model, spec.recipe.precision)


def in_precision(model: nn.Module, precision: str) -> nn.Module:
    """Return a network in the precision of a recipe, its fresh head no less precise than float32; it is changed."""
    model = model.to(getattr(torch, precision))
    if precision == "bfloat16" and models.has_head(model):
        model.get_submodule(models.HEAD).float()  # a step of a fresh layer is smaller than its rounding
    return model


def native(spec: RunSpec, model: nn.Module) -> int:
    """Return D, the number of parameters of a network; with a method on it, of those that it trains."""
    moving = (p for p in model.parameters() if p.requires_grad or not tuned_by.knows(spec.model))
    return sum(parameter.numel() for parameter in moving)


class Bare(Attached):
    """No method: the network itself in full training, or the subspace that holds a copy of it."""

    def stored(self) -> dict[str, Tensor]:
        """Return what was trained, but for the head."""
        named = self.module.named_parameters()
        return {name: p.detach() for name, p in named if p.requires_grad and not name.startswith(OF_HEAD)}

    def merge(self) -> nn.Module:
        """Return the network at its trained parameters."""
        from idim.subspace import Subspace

        return self.module.merged() if isinstance(self.module, Subspace) else self.module

    def detach(self) -> nn.Module:
        """Refuse: the initial parameters are not kept.

        Raises:
            RequestError: always.
        """
        raise RequestError("a run without a method keeps no initial parameters: build its network again")


def attached(spec: RunSpec, model: nn.Module) -> Attached:
    """Return the network with the method of a spec on it; it is changed in place.

    Raises:
        RequestError: when the method or the subspace has no place there.
    """
    if spec.method in PLAIN:
        return Bare(learner(spec, model))
    _freeze_head(spec, model)
    return methods.attach(methods.parse(spec.method), model, Setting(seed=spec.seed, steps=spec.recipe.steps))


def learner(spec: RunSpec, model: nn.Module) -> nn.Module:
    """Return what is called and trained: the model, or a copy of it whose parameters are theta0 + P z."""
    _freeze_head(spec, model)
    if spec.method == "untuned":
        return model.requires_grad_(False)
    if spec.projection is None or spec.d is None:
        return model
    from idim.subspace import Subspace

    train = (HEAD,) if spec.head == "trained" else ()
    return Subspace(model, projection=spec.projection, d=spec.d, seed=spec.seed, train=train)


def _freeze_head(spec: RunSpec, model: nn.Module) -> None:
    if spec.head == "frozen":
        model.get_submodule(models.HEAD).requires_grad_(False)


def groups(spec: RunSpec, learned: Attached) -> list[Group]:
    """Return the parameters that train at rates of their own: the head, and what the method says."""
    own = [Group(parameters=parameters, lr=lr) for parameters, lr in learned.own_rates()]
    return [Group(parameters=head_parameters(spec, learned.module), lr=spec.head_lr or 0.0), *own]


def head_parameters(spec: RunSpec, module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that train at the rate of the head; none unless the spec has such a rate."""
    if spec.head_lr is None:
        return []
    return [p for name, p in module.named_parameters() if name.startswith(OF_HEAD) and p.requires_grad]


def tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by the names that they have in the files of the pretrained network."""
    from idim.subspace import Subspace

    model = module.merged() if isinstance(module, Subspace) else module
    return {name.removeprefix("body."): tensor.detach() for name, tensor in model.state_dict().items()}
