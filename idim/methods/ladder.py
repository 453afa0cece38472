r"""Ladder side-tuning: a small network beside a frozen one, fed by its hidden states.

Beside a network with hidden states :math:`h_0 \dots h_L` of n values runs one of :math:`n / r` values,

.. math:: s_0 = D_0 h_0, \qquad s_i = B_i\bigl(\mu_i D_i h_i + (1 - \mu_i) s_{i-1}\bigr), \qquad
          \mu_i = \sigma(a_i / 0.1),

with linear maps :math:`D_i` down, small blocks :math:`B_i`, and gates that start at one half. The answer's hidden
state is :math:`h_L + U s_L` with a linear map U up. Gradients stay in the small network: of the large one no
activation is kept.

In a transformer :math:`B_i` is a pre-norm layer of attention and MLP, and :math:`s_L` is normalised before U. In a
residual network D and U are 1 x 1 convolutions, :math:`B_i` two 3 x 3 ones beside a shortcut, at least 8 channels
wide, and s is averaged to the size of a smaller stage.

Deviations from Sung et al.: the small network starts from random numbers instead of a pruned copy of the large one;
U starts at zero and the large one's own answer is kept beside it, so that the start is the base; residual networks
are not in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from idim.methods.additions.added import Added, language_model
from idim.methods.additions.side_images import SideOfStages, stages
from idim.methods.additions.side_texts import SideOfLayers
from idim.methods.base import Attached, CannotAttach, Group, Method, Setting
from idim.methods.options import at_least
from idim.methods.places import blocks, body_parameters, nothing
from idim.models.init import generator


@dataclass(frozen=True, kw_only=True)
class Ladder(Method):
    """Ladder side-tuning (see the module).

    Args:
        reduction: by how much the side network is narrower.

    Raises:
        RequestError: for a reduction below 1.
    """

    name: ClassVar[str] = "ladder"
    group: ClassVar[Group] = "addition"
    source: ClassVar[str] = (
        "Y.-L. Sung, J. Cho and M. Bansal, LST: Ladder Side-Tuning for Parameter and Memory Efficient Transfer "
        "Learning, 2022, arXiv:2206.06522"
    )

    reduction: int = 8

    def __post_init__(self) -> None:
        at_least(self.name, 1, reduction=self.reduction)

    @property
    def merges(self) -> bool:
        """A side network is no change of the network's own parameters."""
        return False

    @property
    def through(self) -> bool:
        """Gradients stay in the side network."""
        return False

    def attach(self, model: nn.Module, setting: Setting) -> Attached:
        """Put a side network beside the layers of a transformer, or the stages of a residual network."""
        if any(parameter.requires_grad for parameter in body_parameters(model).values()):
            raise CannotAttach(
                f"method {self.name!r} needs a network with nothing to train inside, where it lets no gradient in; "
                "received one with another method on it: combine others, without it"
            )
        return Added(model, self._beside(model, generator(setting.seed, "ladder")))

    def _beside(self, model: nn.Module, draw: torch.Generator) -> dict[str, nn.Module]:
        if found := language_model(model):
            name, transformer = found
            layers = [leaf for leaf, _ in blocks(transformer)]
            if len(layers) == transformer.config.num_hidden_layers:
                return {name: SideOfLayers(transformer, layers, reduction=self.reduction, draw=draw)}
        if names := stages(model):
            side = SideOfStages([model.get_submodule(n) for n in names], reduction=self.reduction, draw=draw)
            return {names[0]: side, **{name: nn.Identity() for name in names[1:]}}
        raise nothing(
            self.name,
            model,
            "a transformer with a list of equal layers, or stages 'layer1', 'layer2' … of residual blocks",
        )
