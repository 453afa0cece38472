"""An attention layer of ``transformers`` with keys and values before those of the text.

The layers hand their keys and values to a cache, where they are given one, and attend to what it returns: that is the
place where prefixes come in, behind rotary positions. A mask grows by as many columns, which every token sees. Where
the network leaves a causal mask to the attention function, it is written out, for that function takes the
first key for the first token.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from idim.errors import RequestError

KINDS = ("eager", "sdpa")
"""Attention functions whose masks are written out."""


@dataclass(frozen=True, kw_only=True)
class Before:
    """A cache that returns a prefix before what there is.

    Args:
        prefix: keys and values side by side, [length, 2 * heads * head size].
        past: the cache that was given, if any.
    """

    prefix: Tensor
    past: Any = None

    def update(self, keys: Tensor, values: Tensor, layer: int, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Return keys and values, [n, heads, length + tokens, head size], the prefix before them."""
        if self.past is not None:
            keys, values = self.past.update(keys, values, layer, *args, **kwargs)
        before = self.prefix.to(keys.dtype).chunk(2, dim=1)
        return _joined(before[0], keys), _joined(before[1], values)


def _joined(prefix: Tensor, rows: Tensor) -> Tensor:
    """Return rows [n, heads, tokens, head size] behind the rows of a prefix [length, heads * head size]."""
    n, heads, _, size = rows.shape
    split = prefix.reshape(len(prefix), heads, size).transpose(0, 1)
    return torch.cat([split.expand(n, -1, -1, -1), rows], dim=2)


class Prefixed(nn.Module):
    """An attention layer that sees ``prefix`` before every text.

    Args:
        inner: an attention layer of ``transformers``.
        prefix: a module whose answer is keys and values side by side, [length, 2 * size of a key].
    """

    def __init__(self, inner: nn.Module, prefix: nn.Module) -> None:
        super().__init__()
        self.inner, self.prefix = inner, prefix

    @staticmethod
    def fits(module: nn.Module) -> bool:
        """Whether a module is an attention layer that takes a cache and a mask."""
        taken = inspect.signature(module.forward).parameters.keys()
        return {"hidden_states", "attention_mask", "past_key_values"} <= taken

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, **rest: Any) -> Any:
        """Return what the attention layer answers."""
        prefix, past = self.prefix(), rest.pop("past_key_values", None)
        mask = self._mask(attention_mask, hidden_states, past)
        if mask is not None:
            mask = F.pad(mask, (len(prefix), 0), value=float(mask.dtype == torch.bool))
        return self.inner(hidden_states, attention_mask=mask, past_key_values=Before(prefix=prefix, past=past), **rest)

    def _mask(self, mask: Tensor | None, hidden: Tensor, past: Any) -> Tensor | None:
        """Return which keys of the text a token sees, [.., .., tokens, past + tokens], where it does not see all."""
        inner: Any = self.inner
        if inner.config._attn_implementation not in KINDS:
            raise RequestError(
                f"prefixes need an attention function with masks, {' or '.join(KINDS)}; "
                f"received {inner.config._attn_implementation!r}: load the network with one of these"
            )
        if mask is not None or not getattr(inner, "is_causal", False):
            return mask
        seen = 0 if past is None else past.get_seq_length(inner.layer_idx)
        tokens = hidden.shape[1]
        return torch.ones(1, 1, tokens, seen + tokens, dtype=torch.bool, device=hidden.device).tril(seen)
