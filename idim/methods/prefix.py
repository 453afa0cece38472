r"""Prefix tuning and P-tuning v2: trained keys and values before those of the text, in every layer.

A head of attention with queries Q, keys K and values V answers

.. math:: \mathrm{softmax}\bigl(Q\,[P_K; K]^\top / \sqrt{h}\bigr)\,[P_V; V],

with k trained rows :math:`P_K, P_V` of its own that every token sees. Prefix tuning makes them from trained vectors
:math:`e_1 \dots e_k` while training, :math:`[P_K, P_V]_l = W_l \tanh(U e + b) + c_l` in layer l, one perceptron of
which all layers share the first half; P-tuning v2 trains them as they are. Only :math:`P_K` and :math:`P_V` are
stored.

The text keeps its own positions, and all of them. Deviations: the papers' code counts the prefix as the first
positions; Liu et al. drop out entries of the prefix; P-tuning v2 starts from N(0, 0.02^2), as fresh weights of BERT.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from idim.errors import RequestError
from idim.methods.additions.added import Added, linear
from idim.methods.additions.prefixed import Prefixed
from idim.methods.base import Attached, Group, Method, Setting
from idim.methods.options import at_least
from idim.methods.places import body_modules, nothing
from idim.methods.prompt import Plain
from idim.models.init import generator

KEYS, VALUES = ("key", "k_proj"), ("value", "v_proj")
DEVIATION = 0.02


class Trunk(nn.Module):
    """What all layers' prefixes have in common: tanh(U e + b), [length, width]."""

    def __init__(self, length: int, size: int, width: int, draw: torch.Generator) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(length, size, generator=draw))
        self.first = linear(size, width, draw)

    def forward(self) -> Tensor:
        """Return the inner values."""
        return torch.tanh(self.first(self.vectors))


class Branch(nn.Module):
    """One layer's prefix from the common trunk: keys and values, [length, 2 * size]."""

    def __init__(self, trunk: Trunk, size: int, draw: torch.Generator) -> None:
        super().__init__()
        self.trunk, self.last = trunk, linear(trunk.first.out_features, 2 * size, draw)

    def forward(self) -> Tensor:
        """Return keys and values side by side."""
        prefix: Tensor = self.last(self.trunk())
        return prefix


class AttachedPrefixes(Added):
    """A network with prefixes in its attention layers; they alone are stored."""

    def __init__(self, model: nn.Module, layers: Mapping[str, Prefixed]) -> None:
        super().__init__(model, layers)
        self.layers = dict(layers)

    def stored(self) -> dict[str, Tensor]:
        """Return the prefix of every attention layer, [length, 2 * size], keys first."""
        with torch.no_grad():
            return {name: layer.prefix().detach() for name, layer in self.layers.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take prefixes as they are, in the place of what makes them."""
        own = self.stored()
        if {n: t.shape for n, t in own.items()} != {n: t.shape for n, t in tensors.items()}:
            raise RequestError(f"what is restored must be prefixes of {sorted(own)}; received {sorted(tensors)}")
        for name, layer in self.layers.items():
            layer.prefix = Plain(tensors[name].to(own[name]).clone())


@dataclass(frozen=True, kw_only=True)
class _Prefixes(Method):
    """What both methods have in common."""

    group: ClassVar[Group] = "addition"

    @property
    def merges(self) -> bool:
        """A prefix is no change of the network's own parameters."""
        return False

    @abc.abstractmethod
    def prefixes(self, sizes: Mapping[str, int], draw: torch.Generator) -> Mapping[str, nn.Module]:
        """Return what makes the prefix of each attention layer, given the size of its keys."""

    def attach(self, model: nn.Module, setting: Setting) -> Attached:
        """Put a prefix into every attention layer."""
        found = dict(attentions(model))
        if not found:
            wanted = "attention layers with 'key' and 'value' or 'k_proj' and 'v_proj' that take past keys and values"
            raise nothing(self.name, model, wanted)
        sizes = {name: _size(module) for name, module in found.items()}
        prefixes = self.prefixes(sizes, generator(setting.seed, self.name))
        return AttachedPrefixes(model, {name: Prefixed(m, prefixes[name]) for name, m in found.items()})


@dataclass(frozen=True, kw_only=True)
class Prefix(_Prefixes):
    """Prefix tuning (see the module).

    Args:
        length: of the prefix, in tokens.
        width: of the perceptron's inner layer.

    Raises:
        RequestError: for options below 1.
    """

    name: ClassVar[str] = "prefix"
    source: ClassVar[str] = (
        "X. L. Li and P. Liang, Prefix-Tuning: Optimizing Continuous Prompts for Generation, 2021, arXiv:2101.00190"
    )

    length: int = 10
    width: int = 512

    def __post_init__(self) -> None:
        at_least(self.name, 1, length=self.length, width=self.width)

    def prefixes(self, sizes: Mapping[str, int], draw: torch.Generator) -> Mapping[str, nn.Module]:
        """Return one branch a layer, on one trunk."""
        trunk = Trunk(self.length, max(sizes.values()), self.width, draw)
        return {name: Branch(trunk, size, draw) for name, size in sizes.items()}


@dataclass(frozen=True, kw_only=True)
class PTuning2(_Prefixes):
    """P-tuning v2: prefixes trained as they are (see the module).

    Args:
        length: of the prefix, in tokens.

    Raises:
        RequestError: for a length below 1.
    """

    name: ClassVar[str] = "ptuning2"
    source: ClassVar[str] = (
        "X. Liu et al., P-Tuning v2: Prompt Tuning Can Be Comparable to Fine-tuning Universally Across Scales and "
        "Tasks, 2022, arXiv:2110.07602"
    )

    length: int = 20

    def __post_init__(self) -> None:
        at_least(self.name, 1, length=self.length)

    def prefixes(self, sizes: Mapping[str, int], draw: torch.Generator) -> Mapping[str, nn.Module]:
        """Return numbers, layer by layer."""
        return {n: Plain(DEVIATION * torch.randn(self.length, 2 * s, generator=draw)) for n, s in sizes.items()}


def attentions(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the attention layers that a prefix can be put into, by name."""
    for name, module in body_modules(model):
        leaves = dict(module.named_children()).keys()
        if Prefixed.fits(module) and leaves & set(KEYS) and leaves & set(VALUES):
            yield name, module


def _size(attention: nn.Module) -> int:
    """Return the number of values of a token's key, over all heads."""
    layer: Any = next(m for leaf, m in attention.named_children() if leaf in KEYS)
    return int(layer.out_features)
