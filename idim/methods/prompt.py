r"""Prompt tuning: trained vectors before the embeddings of a text.

A text of embeddings :math:`e_1 \dots e_n` is read as :math:`p_1 \dots p_k\, e_1 \dots e_n`, with trained
:math:`p_i`. Only the text's own last hidden states go on to the head, so that pooling sees what it saw before. The
prompt takes the first k positions and the text those behind it, as if the prompt were words; a network of
:math:`N` positions reads texts of at most :math:`N - k` tokens. The prompt belongs to the first of two sentences.

Deviation: Lester et al. start from the embeddings of frequent words or of the classes' names; here words are drawn
evenly from the vocabulary, because a tokenizer's order is not always that of frequency.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from idim.errors import RequestError
from idim.methods.additions.added import Added, language_model
from idim.methods.additions.wrappers import Around
from idim.methods.base import Attached, Group, Method, Setting
from idim.methods.options import at_least
from idim.methods.places import nothing
from idim.models.init import generator

WANTED = "a transformer with input embeddings, as networks of texts have"


class Plain(nn.Module):
    """Numbers that are trained as they are."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = nn.Parameter(values)

    def forward(self) -> Tensor:
        """Return them."""
        return self.values


class Prompted(Around):
    """A transformer that reads ``prompt`` before every text.

    Args:
        inner: a bare model of ``transformers``.
        prompt: a module whose answer is the prompt, [k, size].
    """

    def __init__(self, inner: nn.Module, prompt: nn.Module) -> None:
        super().__init__(inner)
        self.prompt = prompt

    def forward(
        self,
        *,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        attention_mask: Tensor,
        **rest: Any,
    ) -> Any:
        """Return what the transformer answers, its last hidden states those of the text alone."""
        texts = self.get_input_embeddings()(input_ids) if inputs_embeds is None else inputs_embeds
        prompt = self.prompt().to(texts.dtype).expand(len(texts), -1, -1)
        length = prompt.shape[1]
        self._check(length, texts.shape[1])
        if (types := rest.get("token_type_ids")) is not None:
            rest["token_type_ids"] = torch.cat([types.new_zeros(len(types), length), types], dim=1)
        mask = torch.cat([attention_mask.new_ones(len(texts), length), attention_mask], dim=1)
        answer: Any = self.inner(inputs_embeds=torch.cat([prompt, texts], dim=1), attention_mask=mask, **rest)
        answer.last_hidden_state = answer.last_hidden_state[:, length:]
        return answer

    def _check(self, prompt: int, text: int) -> None:
        positions = getattr(self.config, "max_position_embeddings", None)
        if positions is not None and prompt + text > positions:
            raise RequestError(
                f"a prompt and a text must fit the network's {positions} positions; received {prompt} and {text}: "
                f"cut texts after {max(positions - prompt, 0)} tokens, or give a shorter prompt"
            )


def embeddings(model: nn.Module, method: str) -> tuple[str, nn.Module, Tensor]:
    """Return the transformer of a network, by name, and its embeddings of words, [words, size].

    Raises:
        CannotAttach: when the network has none.
    """
    if (found := language_model(model)) is None:
        raise nothing(method, model, WANTED)
    name, transformer = found
    return name, transformer, transformer.get_input_embeddings().weight.detach()


@dataclass(frozen=True, kw_only=True)
class Prompt(Method):
    """Prompt tuning (see the module).

    Args:
        length: of the prompt, in tokens.

    Raises:
        RequestError: for a length below 1.
    """

    name: ClassVar[str] = "prompt"
    group: ClassVar[Group] = "addition"
    source: ClassVar[str] = (
        "B. Lester, R. Al-Rfou and N. Constant, The Power of Scale for Parameter-Efficient Prompt Tuning, 2021, "
        "arXiv:2104.08691"
    )

    length: int = 20

    def __post_init__(self) -> None:
        at_least(self.name, 1, length=self.length)

    @property
    def merges(self) -> bool:
        """A prompt is no change of the network's own parameters."""
        return False

    def attach(self, model: nn.Module, setting: Setting) -> Attached:
        """Put a prompt before the texts."""
        name, transformer, words = embeddings(model, self.name)
        drawn = torch.randint(len(words), (self.length,), generator=generator(setting.seed, "prompt"))
        start = words[drawn.to(words.device)].float().clone()
        return Added(model, {name: Prompted(transformer, Plain(start))})
