r"""Weights that move in a small family of matrices: the layers of the library ``peft``, put into a network in place.

A layer's weight becomes :math:`W_0 + \Delta(\phi)`, its :math:`W_0` frozen; the methods of this family differ in
:math:`\Delta`. While a method is on, the layer at each place is ``peft``'s, with the network's own inside it. The
network's parameters are never written to: merging gives each layer a fresh weight, so taking the method off is putting
the network's own layers and parameters back.

Beside ``peft``: what is trained is float32 over a base of less precision; what is drawn at random comes from the
setting's seed; parameters that were trainable before stay so; a layer that stands in a network under several names is
tuned under all of them.
"""

from __future__ import annotations

import abc
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from idim.errors import RequestError
from idim.methods import libraries
from idim.methods.base import Attached, Group, Method, Setting, fill
from idim.methods.layers import Kind, Place, Targets, check_targets, find
from idim.models.init import generator

ADAPTER = "default"
IN_FOUR_BITS = "is_loaded_in_4bit"  # where peft's LoRA looks


class Layers(Attached):
    """peft's layers in a network.

    Args:
        model: the network, with the layers in it.
        places: where they are, and the network's own layers.
        tuner: peft's object that put them there.
        fresh: what is trained, by name.
    """

    def __init__(self, model: nn.Module, places: Sequence[Place], tuner: Any, fresh: dict[str, nn.Parameter]) -> None:
        super().__init__(model)
        self.places, self.tuner, self.fresh = tuple(places), tuner, fresh
        self._layers = {place.name: model.get_submodule(place.name) for place in places}

    def stored(self) -> dict[str, Tensor]:
        """Return what is trained; all else derives from the base and the seed."""
        return {name: parameter.detach() for name, parameter in self.fresh.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take what :meth:`stored` gave, under the names of the time when the layers were put in.

        Raises:
            RequestError: for tensors of other names or shapes.
        """
        fill(self.fresh, tensors)

    def merge(self) -> nn.Module:
        """Return the network with the change inside its weights.

        Raises:
            RequestError: over layers of 4 bits, which cannot hold it.
        """
        if any(place.kind == "quantised" for place in self.places):
            raise RequestError("a change cannot be merged into layers of 4 bits: attach to a network of full precision")
        for place in self.places:
            self._fold(place)
        return self.module

    def detach(self) -> nn.Module:
        """Return the network with its own layers and their own weights."""
        for place in self.places:
            place.module.weight = place.weight
            place.put(self.module, place.module)
        return self.module

    def layer(self, place: Place) -> Any:
        """Return peft's layer at a place, wherever another method may have moved it."""
        return self._layers[place.name]

    def _fold(self, place: Place) -> None:
        layer = self.layer(place)
        place.module.weight = nn.Parameter(place.weight.detach().clone(), requires_grad=place.weight.requires_grad)
        layer.merge()
        place.put(self.module, place.module)


@dataclass(frozen=True, kw_only=True)
class LayerMethod(Method):
    """A method of this family.

    Args:
        targets: ``all`` layers of the body that have a matrix, or query and value projections only (``qv``).

    Attributes:
        kinds: of layers that it works on.
        config: name of peft's configuration for it.
    """

    group: ClassVar[Group] = "reparameterisation"
    kinds: ClassVar[tuple[Kind, ...]] = ("linear", "convolution", "quantised")
    config: ClassVar[str]

    targets: Targets = "all"

    def __post_init__(self) -> None:
        check_targets(self.targets)

    @abc.abstractmethod
    def options(self, setting: Setting) -> dict[str, Any]:
        """Return the options of peft's configuration."""

    def attach(self, model: nn.Module, setting: Setting) -> Attached:
        """Put the layers into the network.

        Raises:
            CannotAttach: when it has no layer of the kinds.
            RequestError: when peft is not installed.
        """
        return self.layers(model, setting)

    def layers(self, model: nn.Module, setting: Setting) -> Layers:
        """Put the layers into the network; see :meth:`attach`."""
        places = find(self.name, model, self.kinds, self.targets)
        tuner, fresh = inject(model, places, self.config, self.options(setting), setting.seed)
        return Layers(model, places, tuner, fresh)


def inject(
    model: nn.Module, places: Sequence[Place], config: str, options: dict[str, Any], seed: int
) -> tuple[Any, dict[str, nn.Parameter]]:
    """Put peft's layers into places of a network; return its tuner and the fresh parameters by name.

    Args:
        model: the network, changed in place; as before when peft refuses.
        places: whose modules are replaced.
        config: name of peft's configuration.
        options: of it, without the targets.
        seed: of what peft draws.

    Raises:
        RequestError: when peft is not installed, or too old for the method.
    """
    peft = libraries.peft()
    if not hasattr(peft, config):
        raise RequestError(f"this method needs a peft that has {config}; received peft {peft.__version__}")
    pattern = "|".join(re.escape(place.name) for place in places)
    transposed = any(type(place.module).__name__ == "Conv1D" for place in places)
    chosen = getattr(peft, config)(target_modules=pattern, fan_in_fan_out=transposed, **options)
    before = {id(parameter) for parameter in model.parameters()}
    with _as_before(model, places), _drawn(seed), _said_to_be_quantised(model, places):
        tuner = peft.PEFT_TYPE_TO_TUNER_MAPPING[chosen.peft_type](model, chosen, ADAPTER)
    for place in places:
        place.put(model, model.get_submodule(place.name))
        _make_float32(model.get_submodule(place.name))
    fresh = {n: p for n, p in model.named_parameters() if p.requires_grad and id(p) not in before}
    return tuner, fresh


def library_seed(seed: int, stream: str) -> int:
    """Return the seed for a library's own generator."""
    return generator(seed, f"methods/{stream}").initial_seed() % 2**31


@contextmanager
def _as_before(model: nn.Module, places: Sequence[Place]) -> Iterator[None]:
    """Keep what peft would change besides: who is trainable, a note on the network; all of it when it refuses."""
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        yield
    except Exception:
        for place in places:
            place.put(model, place.module)
        raise
    finally:
        vars(model).pop("peft_config", None)
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


@contextmanager
def _drawn(seed: int) -> Iterator[None]:
    """Let what draws from torch's global generator draw from the seed; that generator is as before afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.set_state(generator(seed, "methods/layers").get_state())
        yield


@contextmanager
def _said_to_be_quantised(model: nn.Module, places: Sequence[Place]) -> Iterator[None]:
    marked = any(place.kind == "quantised" for place in places) and not hasattr(model, IN_FOUR_BITS)
    if marked:
        setattr(model, IN_FOUR_BITS, True)
    try:
        yield
    finally:
        if marked:
            delattr(model, IN_FOUR_BITS)


def _make_float32(layer: nn.Module) -> None:
    """Raise to float32 what peft put there in the precision of the base, but for the base itself."""
    for name, module in layer.named_modules():
        if name.split(".")[0] == "base_layer":
            continue
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            if tensor.dtype in (torch.bfloat16, torch.float16):
                tensor.data = tensor.data.float()
