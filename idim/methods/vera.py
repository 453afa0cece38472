r"""VeRA: two random matrices for all layers, and two vectors of scales a layer.

.. math:: W = W_0 + \Lambda_b B \Lambda_d A, \qquad A \in R^{r \times n}, \; B \in R^{m \times r},

with A and B drawn once (uniform, of He et al.'s variance) for the largest n and m, frozen, and cut to each layer's
shape; :math:`\Lambda_b` and :math:`\Lambda_d` are diagonal, trained, and 0 and 0.1 at the start. A layer costs
m + r numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from idim.methods.base import Setting
from idim.methods.layers import Kind
from idim.methods.options import at_least, positive, share
from idim.methods.peft_layers import LayerMethod, library_seed


@dataclass(frozen=True, kw_only=True)
class VeRA(LayerMethod):
    """Scales of shared random matrices, for linear layers.

    Args:
        rank: r.
        start: value of the scales of A at the start.
        dropout: share of the inputs of A that is dropped while training.

    Raises:
        RequestError: when an option is out of range.
    """

    name: ClassVar[str] = "vera"
    source: ClassVar[str] = (
        "D. J. Kopiczko, T. Blankevoort and Y. M. Asano, VeRA: Vector-based Random Matrix Adaptation, 2023, "
        "arXiv:2310.11454"
    )
    kinds: ClassVar[tuple[Kind, ...]] = ("linear", "quantised")
    config: ClassVar[str] = "VeraConfig"

    rank: int = 256
    start: float = 0.1
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self.name, 1, rank=self.rank)
        positive(self.name, start=self.start)
        share(self.name, dropout=self.dropout)

    def options(self, setting: Setting) -> dict[str, Any]:
        """Return the options of peft's configuration."""
        return {
            "r": self.rank,
            "d_initial": self.start,
            "vera_dropout": self.dropout,
            "projection_prng_key": library_seed(setting.seed, self.name),
        }
