"""The side network of a transformer: pre-norm layers of attention and MLP, as narrow as asked for."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from idim.methods.additions.added import linear
from idim.methods.additions.rungs import Rung
from idim.methods.additions.wrappers import Around


@contextlib.contextmanager
def _heard(layers: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Give a list that takes the first layer's input and the answer of every layer while they are called."""
    heard: list[Tensor] = []

    def hear(layer: nn.Module, args: Any, kwargs: Any, answer: Any) -> None:
        if layer is layers[0]:
            heard.append(args[0] if args else kwargs["hidden_states"])
        heard.append(answer if isinstance(answer, Tensor) else answer[0])

    hooks = [layer.register_forward_hook(hear, with_kwargs=True) for layer in layers]
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


class SideLayer(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)).

    Args:
        size: of a hidden state.
        heads: of the attention; a divisor of ``size``.
        draw: weights are drawn from it.
    """

    def __init__(self, size: int, heads: int, draw: torch.Generator) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(2))
        self.reads, self.mixes = linear(size, 3 * size, draw), linear(size, size, draw)
        self.mlp = nn.Sequential(linear(size, 4 * size, draw), nn.GELU(), linear(4 * size, size, draw))

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        """Return [n, tokens, size]; ``visible`` says which tokens each sees, [n, 1, tokens, tokens]."""
        attended = self._attended(self.norms[0](x), visible)
        x = x + self.mixes(attended)
        moved: Tensor = x + self.mlp(self.norms[1](x))
        return moved

    def _attended(self, x: Tensor, visible: Tensor) -> Tensor:
        queries, keys, values = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.reads(x).chunk(3, dim=-1)
        )
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=visible)
        return mixed.transpose(1, 2).flatten(-2)


class SideOfLayers(Around):
    """A transformer that keeps no activations, and the side network beside it.

    Args:
        inner: a bare model of ``transformers``.
        layers: the names of its layers, in order.
        reduction: by how much the side network is narrower.
        draw: all fresh weights are drawn from it.
    """

    def __init__(self, inner: nn.Module, layers: Sequence[str], *, reduction: int, draw: torch.Generator) -> None:
        super().__init__(inner)
        self.layers = tuple(layers)
        size = self.config.hidden_size
        narrow = max(size // reduction, 1)
        heads = math.gcd(narrow, self.config.num_attention_heads)
        self.causal = any(getattr(module, "is_causal", False) for module in inner.modules())
        self.first = linear(size, narrow, draw)
        self.rungs = nn.ModuleList(Rung(linear(size, narrow, draw), SideLayer(narrow, heads, draw)) for _ in layers)
        self.norm, self.up = nn.LayerNorm(narrow), linear(narrow, size, None)

    def forward(self, *, attention_mask: Tensor, **inputs: Any) -> Any:
        """Return what the transformer answers, its last hidden states with the side network's."""
        with torch.no_grad(), _heard([self.inner.get_submodule(name) for name in self.layers]) as heard:
            answer = self.inner(attention_mask=attention_mask, **inputs)
        embedded, *hidden = heard
        visible = self._visible(attention_mask)
        side = self.first(embedded.float())
        for rung, states in zip(self.rungs, hidden, strict=True):
            side = rung(states, side, visible)
        last = answer.last_hidden_state
        answer.last_hidden_state = last + self.up(self.norm(side)).to(last.dtype)
        return answer

    def _visible(self, mask: Tensor) -> Tensor:
        """Return which tokens each token of a batch sees: [n, 1, tokens, tokens]; each sees itself, padding too."""
        tokens = mask.shape[1]
        every = torch.ones(tokens, tokens, dtype=torch.bool, device=mask.device)
        seen = mask.bool()[:, None, None, :] & (every.tril() if self.causal else every)
        return seen | torch.eye(tokens, dtype=torch.bool, device=mask.device)
