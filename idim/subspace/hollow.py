"""A copy of a model without the parameters that theta holds: its modules read those from theta.

:class:`Lifted` takes the place of ``_parameters`` in the modules of the copy. It holds no tensor of
theta: a look-up asks :class:`~idim.subspace.theta.Theta`. This serves every way in which a module
reads its weights (attention that reads its projection's weight without calling it, recurrent layers,
tied weights), and the look-ups of a recomputation in the backward pass (activation checkpoints).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from idim.parameters import Selection
from idim.subspace.tables import Embedding
from idim.subspace.theta import Theta


class Lifted(dict[str, Any]):
    """``_parameters`` of a module some of whose tensors are rows of theta.

    Look-ups find every tensor of the module. Iteration finds them all during a forward pass (models
    ask ``next(self.parameters())`` for a dtype), and otherwise only those that the module itself
    holds, so that optimizers, ``state_dict`` and ``to`` meet each number once.

    Args:
        own: the parameters that the module itself holds.
        names: all parameter names, in the module's order.
        index: names of the tensors of theta, with their indices.
        theta: where those are read.
    """

    def __init__(self, own: Mapping[str, Any], names: tuple[str, ...], index: Mapping[str, int], theta: Theta) -> None:
        super().__init__(own)
        self.names, self.index, self.theta = names, dict(index), theta

    def __missing__(self, name: str) -> Tensor:
        return self.theta.tensor(self.index[name])

    def __contains__(self, name: object) -> bool:
        return name in self.index or super().__contains__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """Return a tensor of the module, or ``default``."""
        if name not in self:
            return default
        return self[name]

    def __iter__(self) -> Iterator[str]:
        own = super().__iter__()
        return iter(dict.fromkeys((*self.names, *own))) if self.theta.calls else own

    def keys(self) -> Any:
        """Return the names that iteration finds."""
        return list(self)

    def values(self) -> Any:
        """Return the tensors that iteration finds, each read when it is reached."""
        return (self[name] for name in self)

    def items(self) -> Any:
        """Return the pairs that iteration finds, each read when it is reached."""
        return ((name, self[name]) for name in self)

    def __reduce__(self) -> Any:
        own = {name: dict.__getitem__(self, name) for name in dict.__iter__(self)}
        return Lifted, (own, self.names, self.index, self.theta)


def hollow(model: nn.Module, selection: Selection, theta: Theta) -> nn.Module:
    """Return a copy of ``model`` that reads the chosen parameters from ``theta`` and holds the others."""
    blank = nn.Parameter(torch.empty(0), requires_grad=False)
    shell = copy.deepcopy(model, {id(p): blank for p in selection.inside.values()})
    index = {alias: i for i, name in enumerate(selection.inside) for alias in selection.aliases[name]}
    untied = {i for i, name in enumerate(selection.inside) if len(selection.aliases[name]) == 1}
    for prefix, module in shell.named_modules():
        names = tuple(module._parameters)
        leaves = {leaf: index[path] for leaf in names if (path := f"{prefix}.{leaf}".lstrip(".")) in index}
        if leaves:
            own = {leaf: p for leaf, p in module._parameters.items() if leaf not in leaves}
            module._parameters = Lifted(own, names, leaves, theta)
            if type(module) is nn.Embedding and leaves["weight"] in untied and theta.defer(leaves["weight"]):
                module.__class__ = Embedding
    for name in (*selection.trained, *selection.frozen):
        shell.get_parameter(name).requires_grad_(name in selection.trained)
    return shell


def held_aliases(selection: Selection) -> dict[str, str]:
    """Return the further names of tied tensors that the copy itself holds, each with the first one."""
    held = [*selection.trained, *selection.frozen]
    return {f"model.{alias}": f"model.{name}" for name in held for alias in selection.aliases[name][1:]}
