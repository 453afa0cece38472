r"""Parameters that are computed where they are used: :math:`\theta_l = m_l(\theta_{0,l}; \phi_l)`, tensor by tensor.

Each chosen tensor keeps its base value, frozen, and gets a small module :math:`m_l` that maps it to the one that the
network uses (``torch.nn.utils.parametrize``). A tensor that the network has under several names gets one map for all
of them. The tensor is computed anew in every forward pass, so a training step holds a copy of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from idim.methods.base import Attached
from idim.methods.places import body_parameters


class Parametrized(Attached):
    """Maps on some tensors of a network.

    Args:
        model: the network.
        maps: from the first name of a parameter to its map, whose own parameters are what is trained.

    Attributes:
        maps: the same.
        bases: the parameters that the maps start from, frozen, by name.
    """

    def __init__(self, model: nn.Module, maps: Mapping[str, nn.Module]) -> None:
        super().__init__(model)
        self.maps = dict(maps)
        own = body_parameters(model)
        self.bases = {name: own[name] for name in maps}
        self._owners = {name: _owners(model, parameter) for name, parameter in self.bases.items()}
        self._order = {owner: list(owner._parameters) for places in self._owners.values() for owner, _ in places}
        for name, places in self._owners.items():
            for owner, leaf in places:
                parametrize.register_parametrization(owner, leaf, self.maps[name], unsafe=True)

    def values(self) -> dict[str, Tensor]:
        """Return the tensors as the network uses them outside of training."""
        with torch.no_grad():
            return {name: self.maps[name].eval()(base).clone() for name, base in self.bases.items()}

    def stored(self) -> dict[str, Tensor]:
        """Return what the maps train, by the name of the tensor it belongs to."""
        named = ((f"{name}:{leaf}", p) for name, m in self.maps.items() for leaf, p in m.named_parameters())
        return {name: p.detach() for name, p in named}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take what :meth:`stored` gave."""
        with torch.no_grad():
            for name, tensor in tensors.items():
                place, _, leaf = name.rpartition(":")
                self.maps[place].get_parameter(leaf).copy_(tensor)

    def merge(self) -> nn.Module:
        """Return the network with the tensors that it used in place of the base's."""
        values = self.values()
        with torch.no_grad():
            for name, base in self.bases.items():
                base.copy_(values[name])
        return self.detach()

    def detach(self) -> nn.Module:
        """Return the network without the maps, each parameter in its old place."""
        for places in self._owners.values():
            for owner, leaf in places:
                parametrize.remove_parametrizations(owner, leaf, leave_parametrized=False)
        for owner, names in self._order.items():
            own: dict[str, Any] = {name: owner._parameters[name] for name in names}
            owner._parameters.clear()
            owner._parameters.update(own)
        return self.module


def fresh_dtype(base: Tensor) -> torch.dtype:
    """Return the dtype of numbers that change a tensor: its own, float32 where that is coarser."""
    return torch.promote_types(base.dtype, torch.float32)


def _owners(model: nn.Module, parameter: nn.Parameter) -> list[tuple[nn.Module, str]]:
    """Return every module that holds a parameter, with its name there."""
    return [
        (module, leaf) for module in model.modules() for leaf, own in module._parameters.items() if own is parameter
    ]
