"""A pretrained language model under a fresh head, called as every other network: one tensor in, one out.

A text is a row of tokens, [length, 2]: the token's number and which of two sentences it belongs to. Rows of
a batch are as long as the longest text of the data set; shorter ones end in :data:`PADDING`. The network cuts
a batch to its own longest row. The head sees the mean of the last hidden states over the row's tokens, or
in a decoder, where a token sees only what is before it, the last one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from idim.models.layers import dense

PADDING = -1
HEAD_DEVIATION = 0.02  # as the models' own fresh layers


class TextModel(nn.Module):
    """Tokens in, ``outputs`` values a row out.

    Args:
        body: a bare model of ``transformers`` (no head); its pooling layer, where it has one, is dropped.
        outputs: values a row.
        causal: whether a token sees only those before it.
        generator: draws the head, which is float32 whatever the body is.
    """

    def __init__(self, body: nn.Module, *, outputs: int, causal: bool, generator: torch.Generator) -> None:
        super().__init__()
        if getattr(body, "pooler", None) is not None:
            body.pooler = None  # type: ignore[assignment]
        config: Any = body.config
        self.body = body
        self.causal = causal
        self.typed = getattr(config, "type_vocab_size", 0) > 1
        self.head = dense(config.hidden_size, outputs)
        nn.init.normal_(self.head.weight, std=HEAD_DEVIATION, generator=generator)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return [n, outputs] for tokens [n, length, 2]."""
        tokens = tokens[:, : int(lengths(tokens).max())].long()
        numbers, mask = tokens[..., 0], tokens[..., 0] != PADDING
        types = {"token_type_ids": tokens[..., 1].clamp(min=0)} if self.typed else {}
        hidden = self.body(input_ids=numbers.clamp(min=0), attention_mask=mask.long(), **types).last_hidden_state
        answer: Tensor = self.head(self._pooled(hidden.to(self.head.weight.dtype), mask))
        return answer

    def _pooled(self, hidden: Tensor, mask: Tensor) -> Tensor:
        if self.causal:
            return hidden[torch.arange(len(hidden)), mask.sum(dim=1) - 1]
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


def lengths(tokens: Tensor) -> Tensor:
    """Return the number of tokens of every row: [n]."""
    return (tokens[..., 0] != PADDING).sum(dim=1)


def packed(numbers: Iterable[Iterable[int]], types: Iterable[Iterable[int]]) -> Tensor:
    """Return rows of tokens as one int32 tensor [n, longest, 2], padded at the end."""
    rows = [torch.tensor([tuple(n), tuple(t)], dtype=torch.int32).T for n, t in zip(numbers, types, strict=True)]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PADDING)
