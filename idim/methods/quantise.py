r"""The linear layers of a network in four bits.

A weight is cut into blocks of 64; each holds 16 levels, quantiles of the normal distribution (NF4), times the largest
entry of the block, itself kept in eight bits by blocks of 256. That is 4.13 bits a weight. A pass through a layer makes
the weight again from them, in the precision that it came in.

The weights of full precision lie in a temporary file meanwhile, not in memory, and come back bit for bit.

Of ``bitsandbytes``, its own answer in eval mode is not used: on processors with bfloat16 instructions it repacks the
weights for good, rounds further, and refuses outputs that are no multiple of 32.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from idim.errors import RequestError
from idim.methods import libraries
from idim.methods.layers import Kind, Place, find
from idim.methods.places import nothing

SOURCE = "T. Dettmers et al., QLoRA: Efficient Finetuning of Quantized LLMs, 2023, arXiv:2305.14314"
LEVELS = "nf4"
FORMATS = {torch.float32, torch.bfloat16, torch.float16}
LINEAR: tuple[Kind, ...] = ("linear",)


class Quantised:
    """A network whose linear layers are in four bits, in place; it stays so when this object is dropped.

    Attributes:
        model: the network.
        places: of its linear layers, and these themselves, without their weights.
        bytes: what the weights of these layers take now.
    """

    def __init__(self, model: nn.Module, places: list[Place]) -> None:
        self.model, self.places = model, tuple(places)
        self._away = Path(tempfile.mkdtemp(prefix="idim-weights-"))
        self._finish = weakref.finalize(self, shutil.rmtree, self._away, ignore_errors=True)
        self._put_away()
        self._packed: dict[str, Any] = {}
        for place in self.places:
            self._packed[place.name] = _packed(place.module)
            place.put(model, self._packed[place.name])
            place.weight.data = place.weight.new_empty(0)
        self.bytes = sum(_bytes(layer.weight) for layer in self._packed.values())

    def weight(self, place: Place) -> Tensor:
        """Return what a layer computes with: its weight as the four bits have it."""
        return _unpacked(self._packed[place.name])

    def weights(self) -> dict[str, Tensor]:
        """Return those of all layers, under the names of the weights of the network."""
        return {f"{place.name}.weight": self.weight(place) for place in self.places}

    def restore(self) -> nn.Module:
        """Return the network with its own layers and weights, bit for bit."""
        tensors = load_file(self._file)
        for i, place in enumerate(self.places):
            place.weight.data = tensors[_key(i)].to(place.weight.device)
            place.module.weight = place.weight
            place.put(self.model, place.module)
        self._finish()
        return self.model

    @property
    def _file(self) -> Path:
        return self._away / "weights.safetensors"

    def _put_away(self) -> None:
        tensors = {_key(i): place.weight.detach().contiguous() for i, place in enumerate(self.places)}
        try:
            save_file(tensors, self._file)
        except Exception as error:  # safetensors has its own for a full disk
            raise RequestError(
                f"{sum(t.nbytes for t in tensors.values())} bytes of weights must fit into {self._away} while "
                f"the network is in four bits; received: {str(error).splitlines()[0]}"
            ) from error


def quantise(model: nn.Module, *, method: str = "quantise") -> Quantised:
    """Put the linear layers of a network's body into four bits, in place.

    Layers that share their weight with another module stay as they are.

    Args:
        model: the network.
        method: whose name a refusal bears.

    Raises:
        CannotAttach: when there is no linear layer.
        RequestError: when ``bitsandbytes`` is not installed, or the disk has no room.
    """
    libraries.bitsandbytes()
    return Quantised(model, own_linear(method, model))


def own_linear(method: str, model: nn.Module) -> list[Place]:
    """Return the linear layers whose weight is theirs alone.

    Raises:
        CannotAttach: when there is none.
        RequestError: when a weight is of more than 32 bits.
    """
    users = [id(p) for module in model.modules() for p in module.parameters(recurse=False)]
    own = [place for place in find(method, model, LINEAR) if users.count(id(place.weight)) == 1]
    if not (found := [place for place in own if type(place.module) is nn.Linear]):
        raise nothing(method, model, "linear layers with a weight of their own")
    if others := {place.weight.dtype for place in found} - FORMATS:
        raise RequestError(f"four bits are made of weights of at most 32 bits; received {others.pop()}")
    return found


def _key(i: int) -> str:
    return str(i)


def _packed(layer: Any) -> Any:
    """Return a layer of four bits with the same weight and the very same bias."""
    library = libraries.bitsandbytes()
    weight = layer.weight.detach()
    packed = library.nn.Linear4bit(
        layer.in_features, layer.out_features, bias=False, compute_dtype=weight.dtype, quant_type=LEVELS, device="meta"
    )
    packed.weight = library.nn.Params4bit(weight, requires_grad=False, quant_type=LEVELS).to(weight.device)
    packed.bias = layer.bias
    packed.support_avx512bf16_for_cpu = False
    return packed.train(layer.training)


def _unpacked(layer: Any) -> Tensor:
    weight: Tensor = libraries.bitsandbytes().functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    return weight


def _bytes(weight: Any) -> int:
    return sum(int(part.nbytes) for part in (weight, *weight.quant_state.as_dict(packed=True).values()))
