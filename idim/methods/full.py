"""Full tuning, and its least: the head alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from idim.methods.base import Attached, CannotAttach, Group, Method, Setting, fill
from idim.methods.places import body_parameters, nothing
from idim.models import HEAD, has_head


class Moved(Attached):
    """Some of the network's own parameters, trained in place.

    Args:
        model: the network.
        names: of the parameters that move; their initial values are kept, so that they can be given back.
    """

    def __init__(self, model: nn.Module, names: Mapping[str, nn.Parameter]) -> None:
        super().__init__(model)
        self.moved = dict(names)
        self.initial = {name: parameter.detach().clone() for name, parameter in names.items()}
        for parameter in names.values():
            parameter.requires_grad_(True)

    def stored(self) -> dict[str, Tensor]:
        """Return the parameters that moved."""
        return {name: parameter.detach() for name, parameter in self.moved.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take what :meth:`stored` gave; other methods may have given the parameters other names since."""
        fill(self.moved, tensors)

    def merge(self) -> nn.Module:
        """Return the network as it is: it was trained in place."""
        return self.module

    def detach(self) -> nn.Module:
        """Return the network with its initial values back in place."""
        for name, parameter in self.moved.items():
            parameter.data.copy_(self.initial[name])
            parameter.requires_grad_(False)
        return self.module


def unrounded(method: str, chosen: Mapping[str, nn.Parameter]) -> Mapping[str, nn.Parameter]:
    """Return the parameters that a method changes in place.

    Raises:
        CannotAttach: when some are whole numbers, as those of a rounded base are.
    """
    whole = [name for name, parameter in chosen.items() if not parameter.is_floating_point()]
    if whole:
        raise CannotAttach(
            f"method {method!r} changes parameters in place, and whole numbers cannot move; received {len(whole)} of "
            f"them, {whole[0]} the first: give a network that is not rounded, or a method that leaves the base alone"
        )
    return chosen


@dataclass(frozen=True, kw_only=True)
class Full(Method):
    """Every parameter moves."""

    name: ClassVar[str] = "full"
    group: ClassVar[Group] = "full"
    source: ClassVar[str] = "the usual fine-tuning"

    def attach(self, model: nn.Module, setting: Setting) -> Attached:
        """Let every parameter move.

        Raises:
            CannotAttach: when some are whole numbers, as those of a rounded base are.
        """
        return Moved(model, unrounded(self.name, body_parameters(model)))


@dataclass(frozen=True, kw_only=True)
class Probe(Method):
    """Nothing moves but the head: a linear probe of the frozen network's features."""

    name: ClassVar[str] = "probe"
    group: ClassVar[Group] = "full"
    source: ClassVar[str] = "G. Alain and Y. Bengio, Linear classifier probes, 2016, arXiv:1610.01644"

    @property
    def through(self) -> bool:
        """No gradient is asked of the network."""
        return False

    def attach(self, model: nn.Module, setting: Setting) -> Attached:
        """Leave everything as it is.

        Raises:
            CannotAttach: when the network has no head of its own.
        """
        if not has_head(model):
            raise nothing(self.name, model, f"a fresh last layer, a module named {HEAD!r}")
        return Moved(model, {})
