"""Which layers have a weight matrix that a method can reparameterise."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from idim.errors import unknown
from idim.methods.places import body_modules, in_head, nothing

Kind = Literal["linear", "convolution", "quantised"]
Targets = Literal["all", "qv"]

TARGETS: tuple[Targets, ...] = ("all", "qv")
QUERY_VALUE = ("query", "value", "q_proj", "v_proj", "q_lin", "v_lin")
"""Last parts of the names of query and value projections in encoders and decoders."""

WORDS: dict[Kind, str] = {"linear": "linear layers", "convolution": "convolutions", "quantised": "layers of 4 bits"}
READS_WEIGHTS = (nn.MultiheadAttention, nn.TransformerEncoderLayer)
"""Modules that read their children's weights instead of calling them: a replaced child would be passed over."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A layer in a network, and all the names under which the network has it.

    Attributes:
        names: dotted, the first as the network's own iteration gives it.
        module: the layer.
        kind: what it is.
        weight: its own parameter, to be given back.
    """

    names: tuple[str, ...]
    module: nn.Module
    kind: Kind
    weight: Tensor

    @property
    def name(self) -> str:
        """Its first name."""
        return self.names[0]

    def put(self, model: nn.Module, module: nn.Module) -> None:
        """Put a module into this place, under all its names."""
        for name in self.names:
            model.set_submodule(name, module)


def find(method: str, model: nn.Module, kinds: Collection[Kind], targets: Targets = "all") -> list[Place]:
    """Return the layers of a network's body that a method works on, in the network's order.

    Raises:
        CannotAttach: when there is none.
    """
    names = _names(model)
    found = [
        Place(names=tuple(names[id(module)]), module=module, kind=kind, weight=module.get_parameter("weight"))
        for name, module in _called(model)
        if (kind := kind_of(module)) and kind in kinds
        if targets == "all" or name.rpartition(".")[2] in QUERY_VALUE
    ]
    if not found:
        wanted = " or ".join(WORDS[kind] for kind in WORDS if kind in kinds)
        raise nothing(method, model, wanted if targets == "all" else f"{wanted} named {' or '.join(QUERY_VALUE)}")
    return found


def kind_of(module: nn.Module) -> Kind | None:
    """Return what a layer is, or None for what has no matrix, or one of another shape.

    Subclasses are none of these: their ``forward`` may be another.
    """
    if type(module) is nn.Linear or _is(module, "transformers.pytorch_utils", "Conv1D"):
        return "linear"
    if _is(module, "bitsandbytes.nn.modules", "Linear4bit"):
        return "quantised"
    return "convolution" if type(module) is nn.Conv2d and _is_plain(module) else None


def check_targets(targets: str) -> None:
    """Refuse a choice of layers that there is none of.

    Raises:
        RequestError: naming those that there are.
    """
    if targets not in TARGETS:
        raise unknown("choice of targets", targets, TARGETS)


def _is(module: nn.Module, home: str, name: str) -> bool:
    """Whether a module is of a class of an optional library, without importing it."""
    return (type(module).__module__, type(module).__name__) == (home, name)


def _is_plain(layer: nn.Conv2d) -> bool:
    """Whether peft's low-rank convolution beside it would see the same pixels: it knows stride and padding only."""
    return layer.groups == 1 and set(layer.dilation) == {1} and layer.padding_mode == "zeros"


def _called(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the modules of the body, without those whose parent does not call them, or that a tuner made."""
    closed = [f"{n}." for n, m in model.named_modules() if isinstance(m, READS_WEIGHTS) or hasattr(m, "base_layer")]
    return [(n, m) for n, m in body_modules(model) if not n.startswith(tuple(closed))]


def _names(model: nn.Module) -> dict[int, list[str]]:
    names = defaultdict(list)
    for name, module in model.named_modules(remove_duplicate=False):
        if not in_head(name):
            names[id(module)].append(name)
    return names
