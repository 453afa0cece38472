r"""DoRA: LoRA on the direction of a weight's rows, and their lengths trained beside it.

.. math:: W = \operatorname{diag}(s) \, V, \quad V = W_0 + \frac{\alpha}{r} B A, \quad s_i = m_i / \|V_i\|,

with :math:`V_i` row i (the weights of one output; for a convolution one filter) and :math:`m_i = \|W_{0,i}\|` at the
start. :math:`\|V_i\|` counts as a constant in the gradient (section 4.3). The change :math:`W - W_0` is of full rank
in general.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from idim.methods.base import Setting
from idim.methods.lora import LoRA


@dataclass(frozen=True, kw_only=True)
class DoRA(LoRA):
    """Low-rank changes of the directions of the weights, and their lengths; options as LoRA's."""

    name: ClassVar[str] = "dora"
    source: ClassVar[str] = "S.-Y. Liu et al., DoRA: Weight-Decomposed Low-Rank Adaptation, 2024, arXiv:2402.09353"

    def options(self, setting: Setting) -> dict[str, Any]:
        """Return the options of peft's configuration."""
        return super().options(setting) | {"use_dora": True}
