r"""LoRA: the change of a weight is a product of two thin matrices.

.. math:: W = W_0 + \frac{\alpha}{r} B A, \qquad A \in R^{r \times n}, \; B \in R^{m \times r},

with A drawn at random and B = 0, so that training starts at the base. A convolution counts as the matrix of its
filters, m output channels by n = channels x height x width.

Hu et al. adapt the attention alone; later practice, ``targets=all`` here, adapts every linear layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from idim.methods.base import Setting
from idim.methods.options import at_least, positive, share
from idim.methods.peft_layers import LayerMethod


@dataclass(frozen=True, kw_only=True)
class LoRA(LayerMethod):
    """Low-rank changes of the weights.

    Args:
        rank: r.
        alpha: of the scale alpha / r.
        dropout: share of the inputs of A that is dropped while training.
        targets: ``all`` layers, or query and value projections only (``qv``), as Hu et al.

    Raises:
        RequestError: when an option is out of range.
    """

    name: ClassVar[str] = "lora"
    source: ClassVar[str] = (
        "E. J. Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021, arXiv:2106.09685"
    )
    config: ClassVar[str] = "LoraConfig"

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self.name, 1, rank=self.rank)
        positive(self.name, alpha=self.alpha)
        share(self.name, dropout=self.dropout)

    def options(self, setting: Setting) -> dict[str, Any]:
        """Return the options of peft's configuration."""
        return {"r": self.rank, "lora_alpha": self.alpha, "lora_dropout": self.dropout}
