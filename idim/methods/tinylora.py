r"""TinyLoRA: a few numbers, tied over all layers, that mix random matrices between leading directions of each weight.

With the truncated singular value decomposition :math:`W_0 \approx U \Sigma V^T` of rank r, and random frozen
:math:`P_1 \dots P_d \in R^{r \times r}` of each layer's own,

.. math:: W = W_0 + U \Sigma^{1/2} \Big( \sum_{i=1}^{d} z_i P_i \Big) \Sigma^{1/2} V^T,

z = 0 at the start. One z serves all layers (``tied=true``: d numbers in all), or each layer has its own. A layer moves
in min(d, r²) directions at most: untied, more than r² numbers a layer are redundant.

The paper puts :math:`\Sigma` whole on the left; peft's layers, used here, put half of it on either side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from idim.methods.base import Setting
from idim.methods.layers import Kind
from idim.methods.options import at_least, share
from idim.methods.peft_layers import LayerMethod, library_seed


@dataclass(frozen=True, kw_only=True)
class TinyLoRA(LayerMethod):
    """A few numbers between leading directions of linear layers.

    Args:
        d: number of entries of z.
        rank: of the decomposition.
        tied: whether all layers share one z.
        dropout: share of the inputs that is dropped while training.

    Raises:
        RequestError: when an option is out of range.
    """

    name: ClassVar[str] = "tinylora"
    source: ClassVar[str] = "J. X. Morris et al., Learning to Reason in 13 Parameters, 2026, arXiv:2602.04118"
    kinds: ClassVar[tuple[Kind, ...]] = ("linear",)
    config: ClassVar[str] = "TinyLoraConfig"

    d: int = 13
    rank: int = 2
    tied: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self.name, 1, d=self.d, rank=self.rank)
        share(self.name, dropout=self.dropout)

    def options(self, setting: Setting) -> dict[str, Any]:
        """Return the options of peft's configuration."""
        return {
            "r": self.rank,
            "u": self.d,
            "weight_tying": float(self.tied),
            "tinylora_dropout": self.dropout,
            "projection_seed": library_seed(setting.seed, self.name),
        }
