r"""AdaLoRA: a triplet form of the change, and a budget of directions that moves to the layers that need them.

.. math:: W = W_0 + \frac{\alpha}{r_0} B \operatorname{diag}(e) A,

with rows of A and columns of B kept near orthonormal by a penalty,
:math:`\gamma` times the mean over all A and B of :math:`\|A A^T - I\|_F` and :math:`\|B^T B - I\|_F`, and e = 0 at
the start. Every layer starts with :math:`r_0` directions. From a first share of the steps on, the number of directions
in all falls as

.. math:: b(t) = \bar b + (b_0 - \bar b) \Big(1 - \frac{t - t_i}{T - t_f - t_i}\Big)^3,

from :math:`b_0 = r_0 L` over L layers to :math:`\bar b = r L`, and stays there for the last :math:`t_f` steps: the
:math:`e_i` of the directions of least importance become 0. Importance is the smoothed :math:`|w \, \partial_w loss|`
times its smoothed deviation, of :math:`e_i` plus the means over its row of A and column of B.

The norms of the penalty are not squared and are averaged, as in the authors' code and peft, not as in the paper's
equation 4; importance is read after the optimizer's step, from the gradients before it, as peft does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from idim.errors import RequestError
from idim.methods.base import Setting
from idim.methods.layers import find
from idim.methods.options import at_least, positive, share
from idim.methods.peft_layers import ADAPTER, LayerMethod, Layers, inject

LOOKS = 1000
"""Reallocations in a training at most; between two of them a direction that was taken out may grow again."""


class Allocated(Layers):
    """AdaLoRA's layers in a network."""

    orthogonality: float
    steps: int

    def penalty(self) -> Tensor:
        """Return gamma times the mean distance of A and B from orthonormal rows and columns."""
        grams = [gram for place in self.places for gram in _grams(self.layer(place))]
        distances = [torch.linalg.matrix_norm(gram - torch.eye(len(gram), device=gram.device)) for gram in grams]
        return self.orthogonality * torch.stack(distances).mean()

    def after_step(self, step: int) -> None:
        """Take directions out where the budget has fallen.

        A training of one step ends before any importance is known, and keeps all directions.
        """
        if self.steps < 2:
            return
        for parameter in self.fresh.values():
            if parameter.grad is None:  # of a layer that the batch did not pass
                parameter.grad = torch.zeros_like(parameter)
        self.tuner.update_and_allocate(step)

    def ranks(self) -> dict[str, int]:
        """Return the number of directions that each layer has now."""
        return {place.name: int(_kept(self.layer(place)).sum()) for place in self.places}

    def stored(self) -> dict[str, Tensor]:
        """Return the directions that are not taken out."""
        return {
            f"{place.name}.{part}": tensor
            for place in self.places
            for part, tensor in _triplet(self.layer(place), _kept(self.layer(place))).items()
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take what :meth:`stored` gave.

        Raises:
            RequestError: when it is of other layers, or has more directions than these.
        """
        expected = {f"{place.name}.{part}" for place in self.places for part in "ABE"}
        if set(tensors) != expected:
            raise RequestError(f"what is restored must be of the same layers; see {min(expected ^ set(tensors))!r}")
        for place in self.places:
            _fill(self.layer(place), **{part: tensors[f"{place.name}.{part}"] for part in "ABE"})


@dataclass(frozen=True, kw_only=True)
class AdaLoRA(LayerMethod):
    """Low-rank changes whose ranks are allocated while training.

    Args:
        rank: mean over the layers at the end.
        begin: rank of every layer at the start.
        alpha: of the scale alpha / begin.
        orthogonality: gamma.
        warmup: share of the steps before the first directions are taken out.
        settled: share of the steps at the end during which ranks stay.
        dropout: share of the inputs of A that is dropped while training.

    Raises:
        RequestError: when an option is out of range.
    """

    name: ClassVar[str] = "adalora"
    source: ClassVar[str] = (
        "Q. Zhang et al., Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning, 2023, arXiv:2303.10512"
    )
    config: ClassVar[str] = "AdaLoraConfig"

    rank: int = 8
    begin: int = 12
    alpha: float = 16.0
    orthogonality: float = 0.5
    warmup: float = 0.1
    settled: float = 0.5
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self.name, 1, rank=self.rank)
        at_least(self.name, self.rank + 1, begin=self.begin)
        positive(self.name, alpha=self.alpha)
        share(self.name, dropout=self.dropout, warmup=self.warmup, settled=self.settled)
        share(self.name, **{"warmup + settled": self.warmup + self.settled})
        if not 0 <= self.orthogonality < float("inf"):
            raise RequestError(
                f"option 'orthogonality' of method 'adalora' must be at least 0; received {self.orthogonality}"
            )

    def options(self, setting: Setting) -> dict[str, Any]:
        """Return the options of peft's configuration."""
        steps = max(1, setting.steps)
        return {
            "init_r": self.begin,
            "target_r": self.rank,
            "lora_alpha": self.alpha,
            "lora_dropout": self.dropout,
            "orth_reg_weight": self.orthogonality,
            "tinit": int(self.warmup * steps),
            "tfinal": max(0, min(int(self.settled * steps), steps - 2)),  # importance needs a step before
            "deltaT": max(1, steps // LOOKS),
            "total_step": steps,
        }

    def layers(self, model: nn.Module, setting: Setting) -> Allocated:
        """Put the layers into the network."""
        places = find(self.name, model, self.kinds, self.targets)
        tuner, fresh = inject(model, places, self.config, self.options(setting), setting.seed)
        attached = Allocated(model, places, tuner, fresh)
        attached.orthogonality, attached.steps = self.orthogonality, setting.steps
        return attached


def _grams(layer: Any) -> tuple[Tensor, Tensor]:
    a, b = layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]
    return a @ a.T, b.T @ b


def _kept(layer: Any) -> Tensor:
    kept: Tensor = layer.lora_E[ADAPTER].detach().flatten() != 0
    return kept


def _triplet(layer: Any, kept: Tensor) -> dict[str, Tensor]:
    a, b, e = (part[ADAPTER].detach() for part in (layer.lora_A, layer.lora_B, layer.lora_E))
    return {"A": a[kept], "B": b[:, kept], "E": e[kept]}


def _fill(layer: Any, *, A: Tensor, B: Tensor, E: Tensor) -> None:
    a, b, e = layer.lora_A[ADAPTER], layer.lora_B[ADAPTER], layer.lora_E[ADAPTER]
    count = len(E)
    if count > len(e) or A.shape != (count, a.shape[1]) or B.shape != (len(b), count):
        raise RequestError(
            f"what is restored must have at most {len(e)} directions of {a.shape[1]} inputs and {len(b)} outputs; "
            f"received {count}, {list(A.shape)} and {list(B.shape)}"
        )
    with torch.no_grad():
        e.zero_()
        a[:count], b[:, :count], e[:count] = A, B, E
