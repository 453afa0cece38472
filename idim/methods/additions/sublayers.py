"""The two sub-layers of a transformer's layer, by the names that families of models give their ends.

Each path leads to the last module of a sub-layer before its residual is added.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from idim.methods.places import body_modules


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Where the sub-layers of a layer end, as paths inside it.

    Args:
        attention: the module whose answer is the attention's.
        mlp: the module whose answer is the MLP's.
        closing: in post-norm models, the module of children dense, dropout and LayerNorm that ends the MLP and is
            called with its inner values and its input.
    """

    attention: str
    mlp: str
    closing: str = ""

    def fits(self, block: nn.Module) -> bool:
        """Whether a module has all these places."""
        names = {name for name, _ in block.named_modules()}
        return names.issuperset(path for path in (self.attention, self.mlp, self.closing) if path)


FAMILIES = (
    Layer(attention="attention.output.dropout", mlp="output.dropout", closing="output"),  # BERT, RoBERTa, ELECTRA
    Layer(attention="self_attn.o_proj", mlp="mlp"),  # Llama, Mistral, Qwen
    Layer(attention="attention.out_lin", mlp="ffn"),  # DistilBERT
    Layer(attention="attn.resid_dropout", mlp="mlp"),  # GPT-2
)


def layers(model: nn.Module) -> Iterator[tuple[str, Layer]]:
    """Yield the layers of a network, by name, each with where its sub-layers end."""
    for name, module in body_modules(model):
        yield from ((name, family) for family in FAMILIES if family.fits(module))
