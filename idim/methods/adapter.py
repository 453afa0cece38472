r"""Bottleneck adapters: small layers between those of a frozen network.

In a transformer an adapter of width :math:`m` is

.. math:: A(h) = W_\uparrow\, f(W_\downarrow h + b_\downarrow) + b_\uparrow, \qquad W_\downarrow \in R^{m \times n},

with :math:`W_\uparrow = b_\uparrow = 0` at the start, so that the network starts as it was. For a sub-layer
:math:`F` with input :math:`x`, which the network closes with LN(x + F(x)) (post-norm) or x + F(x) (pre-norm), the
adapted one has in the place of F(x)

=============  =======================================================================================
``houlsby``    :math:`F(x) + A(F(x))` for attention and MLP, f = GELU
``pfeiffer``   for the MLP alone, f = ReLU: :math:`F(x) + A(\mathrm{LN}(x + F(x)))` where the network is post-norm,
               else :math:`F(x) + A(F(x))`
``parallel``   :math:`F(x) + 4 A(x)` for the MLP, f = ReLU
=============  =======================================================================================

In a residual network an adapter is a linear 1 x 1 convolution :math:`\alpha`, zero at the start: convolutions
:math:`F` become :math:`F(x) + \alpha F(x)` in series, both of a block (``houlsby``) or its second (``pfeiffer``), or
:math:`F(x) + \alpha x` in parallel, both. Where a rank of ``width`` takes fewer numbers, :math:`\alpha` is a product
of two.

Deviations: Houlsby et al. draw all weights from a narrow normal distribution and also train the LayerNorms (add the
method ``norm`` for those); Rebuffi et al. also train the BatchNorms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from idim.errors import unknown
from idim.methods.additions.added import Added, language_model, linear
from idim.methods.additions.convolutions import adapters_of_blocks
from idim.methods.additions.sublayers import Layer, layers
from idim.methods.additions.wrappers import Behind, BehindNorm, Beside, BesideClosing
from idim.methods.base import Attached, Group, Method, Setting
from idim.methods.options import at_least
from idim.methods.places import nothing
from idim.models.init import generator

KINDS = ("houlsby", "parallel", "pfeiffer")
SCALE = 4.0  # of parallel adapters: He et al. 2022, section 4.6


class Bottleneck(nn.Module):
    """Down, bend, up: [..., size] to [..., size], computed in float32 and zero at the start."""

    def __init__(self, size: int, width: int, bend: Callable[[Tensor], Tensor], draw: torch.Generator) -> None:
        super().__init__()
        self.down, self.up = linear(size, width, draw), linear(width, size, None)
        self.bend = bend

    def forward(self, hidden: Tensor) -> Tensor:
        """Return A(h) in the precision of h."""
        answer: Tensor = self.up(self.bend(self.down(hidden.to(self.down.weight.dtype))))
        return answer.to(hidden.dtype)


@dataclass(frozen=True, kw_only=True)
class Adapter(Method):
    """Bottleneck adapters (see the module for their places and equations).

    Args:
        kind: ``houlsby``, ``pfeiffer`` or ``parallel``.
        width: of the bottleneck.

    Raises:
        RequestError: for another kind, or a width below 1.
    """

    name: ClassVar[str] = "adapter"
    group: ClassVar[Group] = "addition"
    source: ClassVar[str] = (
        "N. Houlsby et al., Parameter-Efficient Transfer Learning for NLP, 2019, arXiv:1902.00751; "
        "J. Pfeiffer et al., AdapterFusion, 2021, arXiv:2005.00247, and MAD-X, 2020, arXiv:2005.00052; "
        "J. He et al., Towards a Unified View of Parameter-Efficient Transfer Learning, 2022, arXiv:2110.04366; "
        "S.-A. Rebuffi, H. Bilen and A. Vedaldi, Learning multiple visual domains with residual adapters, 2017, "
        "arXiv:1705.08045, and Efficient parametrization of multi-domain deep neural networks, 2018, arXiv:1803.10082"
    )

    kind: str = "houlsby"
    width: int = 48

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown(f"kind of method {self.name!r}", self.kind, KINDS)
        at_least(self.name, 1, width=self.width)

    @property
    def merges(self) -> bool:
        """An adapter is no change of the network's own parameters."""
        return False

    def attach(self, model: nn.Module, setting: Setting) -> Attached:
        """Put an adapter at every sub-layer that the kind names, or at every convolution of residual blocks."""
        draw = generator(setting.seed, "adapter")
        fresh: dict[str, nn.Module] = {}
        if found := language_model(model):
            size = found[1].config.hidden_size
            for name, layer in layers(model):
                fresh |= self._around(model.get_submodule(name), name, layer, size, draw)
        fresh = fresh or adapters_of_blocks(model, kind=self.kind, width=self.width, draw=draw)
        if not fresh:
            raise nothing(
                self.name,
                model,
                "layers with an attention and an MLP, as in BERT, DistilBERT, GPT-2 and Llama, or residual blocks "
                "with two convolutions 'conv1' and 'conv2'",
            )
        return Added(model, fresh)

    def _around(
        self, block: nn.Module, name: str, layer: Layer, size: int, draw: torch.Generator
    ) -> dict[str, nn.Module]:
        def bottleneck(bend: Callable[[Tensor], Tensor]) -> Bottleneck:
            return Bottleneck(size, self.width, bend, draw)

        def inner(path: str) -> nn.Module:
            return block.get_submodule(path)

        if self.kind == "houlsby":
            return {f"{name}.{path}": Behind(inner(path), bottleneck(F.gelu)) for path in (layer.attention, layer.mlp)}
        at = layer.closing or layer.mlp
        if self.kind == "pfeiffer":
            around = BehindNorm if layer.closing else Behind
            return {f"{name}.{at}": around(inner(at), bottleneck(F.relu))}
        beside = BesideClosing if layer.closing else Beside
        return {f"{name}.{at}": beside(inner(at), bottleneck(F.relu), scale=SCALE)}
