"""A decoder on disk: the layers of a small network from codes to parameters, in one safetensors file.

Layer i has the tensors ``i.weight`` [outputs, inputs] and ``i.bias`` [outputs], float32: i = 0 for a linear decoder,
0 and 1 for one with tanh between. The outputs of the last are the rows. The metadata entry ``idim.decoder`` is a JSON
object:

===========  ==================================================================================================
``format``   version of this description
``names``    the parameters in the order of the rows
``shapes``   of each of them
``base``     hash of the parameters that the change is added to, or "" where it may be any
``learned``  what the decoder was learned from and how, for people; its ``sources`` is a hash of those numbers
===========  ==================================================================================================
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from idim.errors import RequestError
from idim.files import replace_file
from idim.parameters import Layout, digest
from idim.projections.learned_files import Form

MOST_LAYERS = 2
FORM = Form(
    kind="decoder",
    format=1,
    fields={"names": list, "shapes": list, "base": str, "learned": dict},
    maker="idim subspace learn ipt",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """An affine map: weight [outputs, inputs] and bias [outputs]."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class DecoderFile:
    """A decoder in memory (see the module)."""

    path: Path
    layers: tuple[Layer, ...]
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    base: str
    learned: Mapping[str, Any]

    @property
    def D(self) -> int:
        """Number of rows."""
        return len(self.layers[-1].bias)

    @property
    def d(self) -> int:
        """Number of coordinates of a code."""
        return int(self.layers[0].weight.shape[1])


def save_decoder(
    path: Path,
    layers: Sequence[Layer],
    tensors: Mapping[str, Tensor],
    *,
    learned: Mapping[str, Any],
    fits_any: bool = False,
) -> None:
    """Write a decoder.

    Args:
        path: the file.
        layers: one, or two with tanh between; the outputs of the last are the rows of ``tensors`` end to end.
        tensors: the parameters by name at the values that the change is added to.
        learned: what it was learned from, as JSON, for people.
        fits_any: for parameters of these names and shapes at any values.

    Raises:
        RequestError: for layers that do not fit each other or the rows, or are not finite.
    """
    layout = Layout.of(tensors)
    check_layers(layers, layout.D, "a decoder")
    record = {
        "format": FORM.format,
        "names": list(layout.names),
        "shapes": [list(shape) for shape in layout.shapes],
        "base": "" if fits_any else digest(tensors),
        "learned": learned,
    }
    named = {f"{i}.weight": layer.weight for i, layer in enumerate(layers)}
    named |= {f"{i}.bias": layer.bias for i, layer in enumerate(layers)}
    plain = {name: tensor.detach().float().cpu().contiguous() for name, tensor in named.items()}
    with replace_file(path) as temporary:
        save_file(plain, temporary, {FORM.key: json.dumps(record, allow_nan=False)})
        temporary.chmod(0o644)  # as other files; safetensors leaves it to its owner alone


def open_decoder(path: Path | str) -> DecoderFile:
    """Read a decoder.

    Raises:
        RequestError: when the file cannot be read, is cut short, or is no decoder.
    """
    path = Path(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    except (OSError, SafetensorError) as error:
        line = " ".join(str(error).split())
        raise RequestError(f"a decoder must be a whole safetensors file; received {path}: {line}") from error
    record = _record(path, metadata)
    shapes = tuple(tuple(int(side) for side in shape) for shape in record["shapes"])
    layers = _layers(path, tensors)
    check_layers(layers, sum(math.prod(shape) for shape in shapes), str(path))
    return DecoderFile(
        path=path,
        layers=layers,
        names=tuple(record["names"]),
        shapes=shapes,
        base=record["base"],
        learned=record["learned"],
    )


def check_layers(layers: Sequence[Layer], D: int, what: str) -> None:
    """Refuse layers that do not make a decoder of D rows.

    Raises:
        RequestError: naming the shapes.
    """
    shapes = [list(layer.weight.shape) for layer in layers]
    sizes = [shape[0] for shape in shapes if len(shape) == 2]
    joined = len(sizes) == len(layers) and all(a == b[1] for a, b in zip(sizes, shapes[1:], strict=False))
    biased = joined and all(list(layer.bias.shape) == shape[:1] for layer, shape in zip(layers, shapes, strict=True))
    if not (1 <= len(layers) <= MOST_LAYERS and biased and sizes[-1] == D and shapes[0][1] >= 1):
        raise RequestError(
            f"a decoder must have one or two layers that lead from d coordinates to D = {D} rows, with biases; "
            f"received weights {shapes} in {what}"
        )
    if not all(bool(torch.isfinite(t).all()) for layer in layers for t in (layer.weight, layer.bias)):
        raise RequestError(f"a decoder must be finite; received other numbers in {what}")


def _record(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    record = FORM.read(path, metadata)
    if len(record["names"]) != len(record["shapes"]):
        raise RequestError(f"a decoder must have a shape for each of its names; received others in {path}")
    return record


def _layers(path: Path, tensors: Mapping[str, Tensor]) -> tuple[Layer, ...]:
    count = len(tensors) // 2
    wanted = {f"{i}.{part}" for i in range(count) for part in ("weight", "bias")}
    if wanted != tensors.keys() or any(t.dtype != torch.float32 for t in tensors.values()):
        raise RequestError(
            f"a decoder must hold i.weight and i.bias of its layers, float32; received {sorted(tensors)} in {path}"
        )
    return tuple(Layer(weight=tensors[f"{i}.weight"], bias=tensors[f"{i}.bias"]) for i in range(count))
