r"""Uni-LoRA: one vector for the A and B of all layers, each entry of them one of its numbers.

The entries of all A and B, laid out in a row, are :math:`\theta = P z` with :math:`z \in R^d` and P of one entry a
row, :math:`P_{ij} = n_j^{-1/2}`, where :math:`n_j` entries share number j: columns of norm 1. Here the
:math:`n_j` differ by one at most. Then

.. math:: W = W_0 + B A,

without a further scale. z is uniform in [-0.02, 0.02] at the start, so that training starts close to the base, not at
it: at z = 0 all gradients vanish.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from idim.errors import RequestError
from idim.methods.base import Setting
from idim.methods.layers import Kind, Place, find
from idim.methods.options import at_least, positive, share
from idim.methods.peft_layers import ADAPTER, LayerMethod, Layers, library_seed


@dataclass(frozen=True, kw_only=True)
class UniLoRA(LayerMethod):
    """One vector behind the low-rank changes of all linear layers.

    Args:
        d: number of its entries; all that is trained.
        rank: of A and B.
        bound: of the entries at the start.
        dropout: share of the inputs of A that is dropped while training.

    Raises:
        RequestError: when an option is out of range.
    """

    name: ClassVar[str] = "unilora"
    source: ClassVar[str] = "K. Li et al., Uni-LoRA: One Vector is All You Need, 2025, arXiv:2506.00799"
    kinds: ClassVar[tuple[Kind, ...]] = ("linear",)
    config: ClassVar[str] = "UniLoraConfig"

    d: int = 1000
    rank: int = 4
    bound: float = 0.02
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self.name, 1, d=self.d, rank=self.rank)
        positive(self.name, bound=self.bound)
        share(self.name, dropout=self.dropout)

    def options(self, setting: Setting) -> dict[str, Any]:
        """Return the options of peft's configuration."""
        return {
            "r": self.rank,
            "theta_d_length": self.d,
            "init_theta_d_bound": self.bound,
            "unilora_dropout": self.dropout,
            "proj_seed": library_seed(setting.seed, self.name),
        }

    def layers(self, model: nn.Module, setting: Setting) -> Layers:
        """Put the layers into the network.

        Raises:
            RequestError: when d is more than all A and B have entries.
        """
        entries = self.rank * _sides(find(self.name, model, self.kinds, self.targets))
        if self.d > entries:
            raise RequestError(
                f"option 'd' of method {self.name!r} must be at most {entries}, the entries of all A and B of rank "
                f"{self.rank} in this network; received {self.d}"
            )
        attached = super().layers(model, setting)
        _scale([attached.layer(place) for place in attached.places], self.d)
        return attached


def _scale(layers: Sequence[Any], d: int) -> None:
    """Give P columns of norm 1 in float32; over a base of less precision peft rounds its entries."""
    indices = [part[ADAPTER] for layer in layers for part in (layer.unilora_indices_A, layer.unilora_indices_B)]
    scales = torch.bincount(torch.cat([i.flatten() for i in indices]), minlength=d).float().rsqrt()
    for layer in layers:
        layer.unilora_scales_A[ADAPTER] = scales[layer.unilora_indices_A[ADAPTER]]
        layer.unilora_scales_B[ADAPTER] = scales[layer.unilora_indices_B[ADAPTER]]


def _sides(places: Sequence[Place]) -> int:
    """Return the sum of inputs and outputs of layers."""
    return sum(sum(place.weight.shape) for place in places)
