"""What is trained in a run: the network itself, or a subspace around it, and what becomes of its head."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from idim import models
from idim.errors import RequestError
from idim.runs.spec import RunSpec
from idim.tasks import Task

HEAD = f"{models.HEAD}.*"


def network(spec: RunSpec, task: Task, weights: Path | None) -> nn.Module:
    """Return the network of a spec at its initial parameters, in the spec's precision.

    Raises:
        RequestError: when it cannot be built, or has no head of its own where the spec treats one apart.
    """
    model = models.build(
        spec.model,
        input_shape=task.input_shape,
        outputs=task.outputs,
        seed=spec.seed,
        dropout=spec.recipe.dropout,
        weights=weights,
    )
    if spec.head != "inside" and not models.has_head(model):
        raise RequestError(
            f"head {spec.head!r} needs a network with a module named {models.HEAD!r}, as pretrained ones have; "
            f"received {spec.model!r}: use head inside"
        )
    model = model.to(getattr(torch, spec.recipe.precision))
    if spec.recipe.precision == "bfloat16" and models.has_head(model):
        model.get_submodule(models.HEAD).float()  # a step of a fresh layer is smaller than its rounding
    return model


def learner(spec: RunSpec, model: nn.Module) -> nn.Module:
    """Return what is called and trained: the model, or a copy of it whose parameters are theta0 + P z."""
    if spec.head == "frozen":
        model.get_submodule(models.HEAD).requires_grad_(False)
    if spec.projection is None or spec.d is None:
        return model
    from idim.subspace import Subspace

    train = (HEAD,) if spec.head == "trained" else ()
    return Subspace(model, projection=spec.projection, d=spec.d, seed=spec.seed, train=train)


def head_parameters(spec: RunSpec, module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that train at the rate of the head; none unless the spec has such a rate."""
    if spec.head_lr is None:
        return []
    marks = (f"{models.HEAD}.", f"model.{models.HEAD}.")
    return [p for name, p in module.named_parameters() if name.startswith(marks) and p.requires_grad]


def tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by the names that they have in the files of the pretrained network."""
    from idim.subspace import Subspace

    model = module.merged() if isinstance(module, Subspace) else module
    return {name.removeprefix("body."): tensor.detach() for name, tensor in model.state_dict().items()}
