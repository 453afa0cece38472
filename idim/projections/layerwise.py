r"""One learned scale per layer beside the shared coordinates (SAID, "structure-aware intrinsic dimension").

The coordinates are :math:`[z; \lambda]`, with one :math:`\lambda_l` for each of the m layers and d - m numbers
z, so that d counts both. With P a projection of another kind onto d - m coordinates, and l(r) the layer of row r,

.. math::
    \Delta\theta_r = \lambda_{l(r)}\, (P z)_r, \qquad z = 0,\; \lambda = 1 \text{ at the start}.

The map is not linear in its coordinates: it has no transpose, but it has an exact gradient. For a loss with
gradient g and :math:`y_l = P_l^\top g_l` over the rows of layer l,

.. math::
    \partial_z = \sum_l \lambda_l\, y_l, \qquad \partial_{\lambda_l} = \langle z, y_l\rangle,

so the gradient costs one pass, as that of P. At the start, where z = 0, the gradient in λ is zero. With a single
layer a scale would only rescale z: then none is spent, and the map is that of the inner kind.

Reference:
    A. Aghajanyan, L. Zettlemoyer, S. Gupta, "Intrinsic Dimensionality Explains the Effectiveness of Language Model
    Fine-Tuning", 2020, arXiv:2012.13255.
"""

from __future__ import annotations

import bisect
import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from idim.errors import RequestError
from idim.projections.base import Integers, Nonlinear, Projection, check_vector, compute_dtype


@dataclass(frozen=True, kw_only=True)
class Layerwise(Nonlinear):
    """θ_l = θ₀_l + λ_l (P z)_l, for consecutive ``layers`` of so many rows, over the kind named by ``inner``.

    Args:
        layers: number of rows of each layer, all positive, summing to D.
        inner: a user's name of a linear kind, such as "hadamard" or "dense:gaussian".

    Raises:
        RequestError: when the layers do not sum to D, or d leaves no coordinate beside one scale per layer.
    """

    layers: tuple[int, ...]
    inner: str = "hadamard"

    kind: ClassVar[str] = "layerwise"
    layered: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.layers, default=0) < 1 or sum(self.layers) != self.D:
            total = sum(self.layers)
            raise RequestError(f"layers must be positive and sum to D = {self.D}; received {self.layers}, sum {total}")
        if self.d <= self.scales:
            raise RequestError(
                f"d must be at least {self.scales + 1}, one scale for each of {self.scales} layers and one coordinate; "
                f"received d = {self.d}"
            )
        if not self.projection.linear:
            raise RequestError(f"the inner kind of 'layerwise' must be linear; received {self.inner!r}")

    @classmethod
    def parse(cls, option: str) -> dict[str, object]:
        """Read "layerwise:fastfood", or "layerwise:dense:gaussian", as the inner kind."""
        return {"inner": option}

    @classmethod
    def least_d(cls, layers: tuple[int, ...]) -> int:
        """Return the smallest d over these layers: their scales and one coordinate."""
        return _scales(layers) + 1

    @classmethod
    def most_d(cls, option: str, *, D: int, layers: tuple[int, ...]) -> int:
        """Return the scales of these layers and the most coordinates of the inner kind."""
        from idim.projections import most_d

        return min(D, _scales(layers) + (most_d(option, D=D, layers=layers) if option else D))

    @classmethod
    def pin(cls, option: str) -> str:
        """Return the inner kind with its hash, where it has one."""
        from idim.projections import resolve

        return resolve(option) if option else option

    def fitted(self, tensors: Mapping[str, Tensor]) -> Layerwise:
        """Check that the inner kind has its rows in the order of these tensors.

        Raises:
            RequestError: when it has not.
        """
        if self.projection.fitted(tensors) != self.projection:
            raise RequestError(f"under layer scales a basis needs the order of the model; received {self.inner!r}")
        return self

    @property
    def scales(self) -> int:
        """Return how many of the d coordinates are scales: one a layer, none for a single layer."""
        return _scales(self.layers)

    @functools.cached_property
    def projection(self) -> Projection:
        """Return the inner projection, onto the d - scales coordinates z."""
        from idim.projections import create  # the table of kinds holds this kind too

        return create(self.inner, D=self.D, d=self.d - self.scales, seed=self.seed, layers=self.layers)

    def initial(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return z = 0 and λ = 1: shape [d]."""
        start = torch.zeros(self.d, dtype=dtype)
        start[self.d - self.scales :] = 1
        return start

    def vjp(self, z: Tensor, g: Tensor, start: int = 0) -> Tensor:
        """Return the gradient in the coordinates ``z`` of ⟨rows [start, start + len(g)) of the map, g⟩."""
        check_vector("z", z, self.d)
        pulls = (
            (layer, self.projection.rows(low, high).rmatvec(g[low - start : high - start]))
            for layer, low, high in self._segments(start, start + g.numel())
        )
        return self._gradient(z.detach().to(compute_dtype(g)), pulls)

    def grain(self, like: Tensor) -> int:
        """Return the grain of the inner kind."""
        return self.projection.grain(like)

    def lift_grains(self, z: Tensor, grains: Integers, start: int, out: Tensor, base: Tensor) -> None:
        """Write θ₀_l + λ_l (P z)_l into the rows of ``grains`` that lie in ``out``, a part of layer l."""
        shared, scales = self._split(z.detach().to(out.dtype))
        ((layer, _, _),) = self._segments(start, start + out.numel())
        self.projection.lift_grains(self._scaled(shared, scales, layer), grains, start, out, base)

    def vjp_lines(self, z: Tensor, lines: Integers, values: Tensor, start: int, stop: int) -> Tensor:
        """Return :meth:`vjp` over a table, a part of one layer, with few lines that are not zero."""
        ((layer, _, _),) = self._segments(start, stop)
        pulled = self.projection.vjp_lines(z, lines, values, start, stop)
        return self._gradient(z.detach().to(compute_dtype(values)), [(layer, pulled)])

    def _gradient(self, z: Tensor, pulls: Iterable[tuple[int, Tensor]]) -> Tensor:
        """Return the gradient in the coordinates from y_l of some layers l."""
        shared, scales = self._split(z)
        shared_gradient, scale_gradients = torch.zeros_like(shared), torch.zeros_like(scales)
        for layer, pulled in pulls:
            shared_gradient += self._scaled(pulled, scales, layer)
            if self.scales:
                scale_gradients[layer] = shared @ pulled
        return torch.cat([shared_gradient, scale_gradients])

    def _lift(self, z: Tensor, start: int, out: Tensor, base: Tensor | None) -> None:
        shared, scales = self._split(z)
        for layer, low, high in self._segments(start, start + out.numel()):
            rows = slice(low - start, high - start)
            part = None if base is None else base[rows]
            self.projection._lift(self._scaled(shared, scales, layer), low, out[rows], part)

    def _scaled(self, x: Tensor, scales: Tensor, layer: int) -> Tensor:
        return x * scales[layer] if self.scales else x

    def _split(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return z[: self.d - self.scales], z[self.d - self.scales :]

    @functools.cached_property
    def _edges(self) -> tuple[int, ...]:
        return tuple(itertools.accumulate(self.layers, initial=0))

    def _segments(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yield the layers that rows [start, stop) meet, each with its rows among them."""
        layer = bisect.bisect_right(self._edges, start) - 1
        while start < stop:
            end = min(stop, self._edges[layer + 1])
            yield layer, start, end
            layer, start = layer + 1, end


def _scales(layers: tuple[int, ...]) -> int:
    return len(layers) if len(layers) > 1 else 0
