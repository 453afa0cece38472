"""Fresh modules around modules of a network: what the methods that add parameters have in common.

A fresh module takes the place of one of the network's own, which it holds and calls. The network's own modules and
parameters stay the objects they are, so taking a method off is putting them back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from idim.errors import RequestError
from idim.methods.additions.wrappers import Around
from idim.methods.base import Attached
from idim.models.layers import dense


class Added(Attached):
    """A network in which fresh modules stand where others stood.

    Args:
        model: the network.
        fresh: by name, what comes in the place of the module of that name; it may hold that module.
    """

    def __init__(self, model: nn.Module, fresh: Mapping[str, nn.Module]) -> None:
        super().__init__(model)
        own, device = set(model.parameters()), next(model.parameters()).device
        instead = {model.get_submodule(name): module.to(device) for name, module in fresh.items()}
        self.replaced = {n: m for n, m in model.named_modules(remove_duplicate=False) if m in instead}
        for name, module in self.replaced.items():
            model.set_submodule(name, instead[module])
        self.added = {name: p for name, p in model.named_parameters() if p not in own}

    def stored(self) -> dict[str, Tensor]:
        """Return the parameters that were added."""
        return {name: parameter.detach() for name, parameter in self.added.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Give the parameters that were added their values."""
        if (wanted := _shapes(self.stored())) != _shapes(tensors):
            raise RequestError(f"what is restored must be tensors {wanted}; received {_shapes(tensors)}")
        with torch.no_grad():
            for name, tensor in tensors.items():
                self.added[name].copy_(tensor)

    def detach(self) -> nn.Module:
        """Return the network with its own modules back in their places."""
        for name, module in self.replaced.items():
            self.module.set_submodule(name, module)
        return self.module


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in tensors.items()}


def linear(fan_in: int, fan_out: int, draw: torch.Generator | None, *, bias: bool = True) -> nn.Linear:
    """Return a float32 linear layer, its weights from N(0, 1 / fan_in), or zero without a generator; biases zero."""
    layer = dense(fan_in, fan_out, bias=bias)
    if draw is None:
        nn.init.zeros_(layer.weight)
    else:
        nn.init.normal_(layer.weight, std=fan_in**-0.5, generator=draw)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def language_model(model: nn.Module) -> tuple[str, Any] | None:
    """Return the transformer of a network of texts, without an output layer, by name, if there is one."""
    for name, module in model.named_modules():
        if hasattr(module, "get_input_embeddings") and hasattr(module, "base_model"):
            bare = module.base_model
            while isinstance(bare, Around):
                bare = bare.inner
            return next((name, m) for name, m in model.named_modules() if m is bare)
    return None
