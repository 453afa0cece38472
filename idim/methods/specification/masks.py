r"""Which weights are there at all: a learned binary mask over frozen weights.

Every weight :math:`w` of a linear or convolutional layer gets a real number :math:`m` and the network uses

.. math:: w \cdot [m > \tau].

The step has no gradient; :math:`m` gets that of its mask, as if the step were the identity (straight-through).
All :math:`m` start at one value above :math:`\tau`, so that training begins at the base. Biases, normalisation and
embeddings stay. Stored is one bit a weight. This start is that of Mallya et al.; Zhao et al. draw it at random, so
that a part of the weights is gone from the first step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from idim.errors import RequestError
from idim.methods.base import Attached, Group, Method, Setting
from idim.methods.full import unrounded
from idim.methods.places import body_modules, body_parameters, nothing
from idim.methods.specification.parametrized import Parametrized

MASKED = (nn.Linear, nn.modules.conv._ConvNd)


class Masked(nn.Module):
    """A tensor with some of its entries at zero.

    Args:
        shape: of the tensor.
        start: of the real numbers behind the mask.
        threshold: above which an entry is there.
    """

    def __init__(self, shape: torch.Size, start: float, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold
        self.score = nn.Parameter(torch.full(shape, start))

    def mask(self) -> Tensor:
        """Return which entries are there."""
        return self.score.detach() > self.threshold

    def forward(self, base: Tensor) -> Tensor:
        """Return the masked tensor; the gradient of the mask goes to the scores as it is."""
        straight = self.mask().to(self.score.dtype) + (self.score - self.score.detach())
        return base * straight.to(base.dtype)


class AttachedMasks(Parametrized):
    """Masks on some tensors."""

    maps: dict[str, Masked]  # type: ignore[assignment]

    def stored(self) -> dict[str, Tensor]:
        """Return the masks, eight entries a byte."""
        return {name: torch.from_numpy(np.packbits(m.mask().numpy())) for name, m in self.maps.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take masks; the numbers behind them are not stored, and are put on either side of the threshold."""
        for name, bits in tensors.items():
            score = self.maps[name].score.data
            mask = torch.from_numpy(np.unpackbits(bits.numpy(), count=score.numel())).view(score.shape).bool()
            low = torch.full_like(score, self.maps[name].threshold)
            score.copy_(torch.where(mask, low + 1, low))


@dataclass(frozen=True, kw_only=True)
class Masks(Method):
    """Frozen weights, and a learned mask over those of the linear and convolutional layers.

    Args:
        start: of the numbers behind the mask.
        threshold: an entry is there where its number is above.

    Raises:
        RequestError: for numbers that are not finite, or a start that is not above the threshold.
    """

    name: ClassVar[str] = "masks"
    group: ClassVar[Group] = "specification"
    source: ClassVar[str] = (
        "A. Mallya, D. Davis and S. Lazebnik, Piggyback, 2018, arXiv:1801.06519; M. Zhao et al., Masking as an "
        "Efficient Alternative to Finetuning, 2020, arXiv:2004.12406"
    )

    start: float = 0.01
    threshold: float = 0.005

    def __post_init__(self) -> None:
        if not -math.inf < self.threshold < self.start < math.inf:
            raise RequestError(
                f"options of method {self.name!r} must be finite, the threshold below the start; "
                f"received start={self.start:g}, threshold={self.threshold:g}"
            )

    def attach(self, model: nn.Module, setting: Setting) -> Attached:
        """Put the masks on.

        Raises:
            CannotAttach: when there are no such layers, or they are rounded to whole numbers.
        """
        weights = {id(m.weight) for _, m in body_modules(model) if isinstance(m, MASKED)}
        chosen = {name: p for name, p in body_parameters(model).items() if id(p) in weights}
        if not chosen:
            raise nothing(self.name, model, "linear or convolutional layers")
        masks = {n: Masked(p.shape, self.start, self.threshold) for n, p in unrounded(self.name, chosen).items()}
        return AttachedMasks(model, masks)
