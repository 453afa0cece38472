r"""QLoRA: LoRA over linear layers in four bits (:mod:`idim.methods.quantise`).

.. math:: W = Q(W_0) + \frac{\alpha}{r} B A.

What moves is the low-rank part; where it starts is the quantised network, :meth:`OverFourBits.origin`, not the
network that was quantised. Merging writes :math:`Q(W_0)` and the change out in the precision that the weights came in:
a network of the base's own layers that answers as the one in four bits does. To store: A and B; the four bits derive
from the base.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from idim.methods.base import Setting
from idim.methods.layers import Kind
from idim.methods.lora import LoRA
from idim.methods.peft_layers import ADAPTER, Layers
from idim.methods.quantise import SOURCE, Quantised, quantise


class OverFourBits(Layers):
    """LoRA's layers over a network in four bits."""

    quantised: Quantised

    def origin(self) -> dict[str, Tensor]:
        """Return the weights at which the change starts, by name: those of the layers in four bits."""
        return self.quantised.weights()

    def merge(self) -> nn.Module:
        """Return the network in the precision that it came in, at Q(W0) plus the change."""
        tuned = {place.name: place for place in self.places}
        for place in self.quantised.places:
            weight = self.quantised.weight(place)
            if place.name in tuned:
                weight += self.layer(tuned[place.name]).get_delta_weight(ADAPTER).detach()
            place.module.weight = nn.Parameter(weight, requires_grad=False)
            place.put(self.module, place.module)
        for place in self.places:
            if place.kind != "quantised":
                self._fold(place)
        return self.module

    def detach(self) -> nn.Module:
        """Return the network as it was before it was quantised."""
        super().detach()
        return self.quantised.restore()


@dataclass(frozen=True, kw_only=True)
class QLoRA(LoRA):
    """Low-rank changes over linear layers in four bits; options as LoRA's."""

    name: ClassVar[str] = "qlora"
    source: ClassVar[str] = SOURCE
    kinds: ClassVar[tuple[Kind, ...]] = ("linear", "quantised")

    def layers(self, model: nn.Module, setting: Setting) -> Layers:
        """Quantise the network and put the layers into it.

        Raises:
            RequestError: when ``bitsandbytes`` is not installed.
        """
        quantised = quantise(model, method=self.name)
        try:
            layers = super().layers(model, setting)
        except Exception:
            quantised.restore()
            raise
        attached = OverFourBits(model, layers.places, layers.tuner, layers.fresh)
        attached.quantised = quantised
        return attached
