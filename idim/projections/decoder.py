r"""A learned map from codes to parameters: the decoder of an auto-encoder over tunings of many tasks.

.. math::
    \Delta\theta = W z + b \quad\text{(linear)}, \qquad
    \Delta\theta = W_1 \tanh(W_0 z + b_0) + b_1 \quad\text{(MLP)},

with z = 0 the mean code of the tasks that it was learned from, and each coordinate of unit deviation over them
(:mod:`idim.learned.autoencoder` writes it so). Hence training starts at :math:`\theta_0 + f(0)`, near the mean of the
tunings and not at :math:`\theta_0`, and the map is not linear in its coordinates, the linear decoder's neither: it is
affine. Its gradient is exact, :math:`\partial_z = J^\top g` with J the Jacobian of f. A code has no order of
importance: d is that of the decoder, no less.

Like a :class:`~idim.projections.basis.Basis` it is known by the hash of its file, has no seed, and names its
parameters. Cost: the bytes of the last layer, which is in memory.

Source: Y. Qin et al., "Exploring Universal Intrinsic Task Subspace via Prompt Tuning", 2021, arXiv:2110.07867.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from idim.errors import RequestError
from idim.models.origin import parted
from idim.parameters import Layout
from idim.projections.base import Nonlinear, check_vector, compute_dtype
from idim.projections.decoder_file import DecoderFile, Layer, open_decoder
from idim.projections.learned_files import OfFile, checked_digest


@dataclass(frozen=True, kw_only=True)
class Decoder(Nonlinear, OfFile):
    """The decoder of a file.

    Raises:
        RequestError: for a file that is no decoder or has another hash, or a d or D that is not its own.
    """

    kind: ClassVar[str] = "decoder"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.d != self.file.d:
            raise RequestError(
                f"d must be that of the decoder {self.path}, {self.file.d}: a code has no first coordinates; "
                f"received d = {self.d}"
            )

    @classmethod
    def most_d(cls, option: str, *, D: int, layers: tuple[int, ...]) -> int:
        """Return the d of the file, the only one that there is."""
        path, wanted = parted(option)
        return min(D, _opened(path, checked_digest(cls.kind, path, wanted)).d)

    @property
    def file(self) -> DecoderFile:
        """The decoder as it was when it was opened."""
        return _opened(self.path, self.digest)

    def vjp(self, z: Tensor, g: Tensor, start: int = 0) -> Tensor:
        """Return the gradient in the coordinates ``z`` of ⟨rows [start, start + len(g)) of the map, g⟩."""
        check_vector("z", z, self.d)
        dtype = compute_dtype(g)
        *inner, last = self._layers(z.detach().to(dtype))
        back = last.weight[start : start + g.numel()].T @ g.detach().to(dtype)
        for layer in inner:
            hidden = torch.tanh(layer.weight @ z.detach().to(dtype) + layer.bias)
            back = layer.weight.T @ (back * (1 - hidden.square()))
        return back

    def _lift(self, z: Tensor, start: int, out: Tensor, base: Tensor | None) -> None:
        *inner, last = self._layers(z)
        for layer in inner:
            z = torch.tanh(layer.weight @ z + layer.bias)
        rows = slice(start, start + out.numel())
        change = last.weight[rows] @ z + last.bias[rows]
        out.copy_(change if base is None else change + base)

    def _layers(self, like: Tensor) -> tuple[Layer, ...]:
        return _laid(self.path, self.digest, self.order, like.dtype, like.device)


@functools.lru_cache(maxsize=4)
def _opened(path: str, digest: str) -> DecoderFile:
    """Return the file that had this hash: read once, so what replaces it later is not what is used."""
    return open_decoder(Path(path))


@functools.lru_cache(maxsize=4)
def _laid(
    path: str, digest: str, order: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> tuple[Layer, ...]:
    """Return the layers with the rows in an order of the parameters, in a dtype and place."""
    file = _opened(path, digest)
    *inner, last = file.layers
    if order:
        rows = _rows(file, order)
        last = Layer(weight=last.weight[rows], bias=last.bias[rows])
    return tuple(
        Layer(weight=layer.weight.to(device, dtype), bias=layer.bias.to(device, dtype)) for layer in (*inner, last)
    )


def _rows(file: DecoderFile, order: tuple[int, ...]) -> Tensor:
    layout = Layout(names=file.names, shapes=file.shapes, dtypes=(torch.float32,) * len(file.names))
    return torch.cat([torch.arange(*layout.offsets[i : i + 2]) for i in order])
