r"""A decoder with the output layer it was trained with, which says how likely each next token of a text is.

For a row of tokens :math:`t_1 \dots t_n` (:mod:`idim.models.language`) the answer is one number,

.. math:: \sum_{i=2}^{n} -\ln p(t_i \mid t_1 \dots t_{i-1}),

so that sums over rows, divided by the numbers of tokens foretold, are the mean cross-entropy and its exponential the
perplexity. There is no fresh head: theta0 is the pretrained decoder whole, its output layer often tied to its
embeddings.

A vocabulary of 50,000 makes the answers of one batch larger than the network's own activations. The output layer
is therefore applied to a few hundred tokens at a time, which are computed again in the backward pass instead of kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from idim.errors import RequestError
from idim.models.language import PADDING, lengths

CHUNK = 1 << 23  # values of the output layer at once: 32 MB in float32
PROBE = 4  # tokens of the comparison with the decoder's own answer
TOLERANCE = 1e-3


class NextToken(nn.Module):
    """Tokens in, the sum of -ln p of each row's next tokens out, float32.

    Args:
        body: a causal model of ``transformers`` with its output layer.

    Raises:
        RequestError: when its answer is not that of one linear layer over the last hidden states.
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        _check_output_layer(self)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return [n, 1] for tokens [n, length, 2]."""
        tokens = tokens[:, : int(lengths(tokens).max())].long()
        numbers, mask = tokens[..., 0].clamp(min=0), tokens[..., 0] != PADDING
        hidden = self._hidden(numbers, mask)
        foretold = mask[:, 1:]
        losses = self._losses(hidden[:, :-1][foretold], numbers[:, 1:][foretold])
        return losses.new_zeros(foretold.shape).masked_scatter(foretold, losses).sum(dim=1, keepdim=True)

    def _hidden(self, numbers: Tensor, mask: Tensor) -> Tensor:
        decoder: Any = self.body.base_model
        hidden: Tensor = decoder(input_ids=numbers, attention_mask=mask.long(), use_cache=False).last_hidden_state
        return hidden

    def _losses(self, hidden: Tensor, wanted: Tensor) -> Tensor:
        """Return -ln p of every token: [m] from hidden states [m, width] and the tokens that follow, [m]."""
        layer: Any = self.body.get_output_embeddings()  # type: ignore[operator]
        weight, bias = layer.weight, layer.bias  # read once: under a subspace each look-up is a node of autograd
        size = max(1, CHUNK // len(weight))
        parts = [
            checkpoint(_cross_entropy, h, weight, bias, w, use_reentrant=False, preserve_rng_state=False)
            for h, w in zip(torch.split(hidden, size), torch.split(wanted, size), strict=True)
        ]
        return torch.cat(parts)


def _cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor | None, wanted: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(hidden, weight, bias).float(), wanted, reduction="none")


def _check_output_layer(model: NextToken) -> None:
    """Compare with the decoder's own answers: some scale or bend what their output layer gives."""
    body: Any = model.body
    training = body.training
    body.eval()
    with torch.no_grad():
        numbers = torch.arange(PROBE).unsqueeze(0) % body.config.vocab_size
        theirs = F.cross_entropy(body(input_ids=numbers).logits[0, :-1].float(), numbers[0, 1:], reduction="sum")
        ours = model(torch.stack([numbers, torch.zeros_like(numbers)], dim=-1))
    body.train(training)
    if not torch.allclose(ours.squeeze(), theirs, rtol=TOLERANCE):
        raise RequestError(
            f"a decoder must answer with a linear layer over its last hidden states; received a "
            f"{body.config.model_type!r}, which adds something to it"
        )
