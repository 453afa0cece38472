r"""P-tuning: a prompt that a small network writes while training.

The prompt of :mod:`idim.methods.prompt` is :math:`p = M(\mathrm{LSTM}(e))` with trained vectors
:math:`e_1 \dots e_k`, a bidirectional LSTM of two layers and a perceptron M of two, or without the LSTM
:math:`p = M(e)`. All that remains of them after training is p, and only p is stored.

Deviation: Liu et al. may also put the prompt's tokens between those of the text, by hand and for each task.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from idim.errors import RequestError, unknown
from idim.methods.additions.added import Added, linear
from idim.methods.base import Attached, Group, Method, Setting
from idim.methods.options import at_least
from idim.methods.prompt import Plain, Prompted, embeddings
from idim.models.init import generator

ENCODERS = ("lstm", "mlp")


class Encoder(nn.Module):
    """Writes a prompt, [length, size].

    Args:
        length: of the prompt.
        size: of an embedding.
        recurrent: whether an LSTM reads the vectors first.
        draw: all is drawn from it.
    """

    def __init__(self, length: int, size: int, *, recurrent: bool, draw: torch.Generator) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(length, size, generator=draw))
        self.reads = _lstm(size, draw) if recurrent else None
        inner = 2 * self.reads.hidden_size if self.reads is not None else size
        self.writes = nn.Sequential(linear(inner, size, draw), nn.ReLU(), linear(size, size, draw))

    def forward(self) -> Tensor:
        """Return the prompt."""
        hidden = self.vectors if self.reads is None else self.reads(self.vectors)[0]
        prompt: Tensor = self.writes(hidden)
        return prompt


def _lstm(size: int, draw: torch.Generator) -> nn.LSTM:
    width = max(size // 2, 1)
    layer = nn.LSTM(size, width, num_layers=2, bidirectional=True, device="meta", dtype=torch.float32)
    layer = layer.to_empty(device="cpu")
    for parameter in layer.parameters():  # as PyTorch does
        nn.init.uniform_(parameter, -(width**-0.5), width**-0.5, generator=draw)
    return layer


class Written(Added):
    """A network with a prompt that an encoder writes; the prompt alone is stored."""

    def __init__(self, model: nn.Module, name: str, prompted: Prompted) -> None:
        super().__init__(model, {name: prompted})
        self.prompted = prompted

    def stored(self) -> dict[str, Tensor]:
        """Return the prompt."""
        with torch.no_grad():
            return {"prompt": self.prompted.prompt()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take a prompt in the place of the encoder."""
        wanted = self.stored()["prompt"]
        if tensors.keys() != {"prompt"} or tensors["prompt"].shape != wanted.shape:
            raise RequestError(f"what is restored must be a 'prompt' {list(wanted.shape)}; received {sorted(tensors)}")
        self.prompted.prompt = Plain(tensors["prompt"].to(wanted).clone())


@dataclass(frozen=True, kw_only=True)
class PTuning(Method):
    """P-tuning (see the module).

    Args:
        length: of the prompt, in tokens.
        encoder: ``lstm`` (and a perceptron behind it), or ``mlp`` alone.

    Raises:
        RequestError: for a length below 1, or another encoder.
    """

    name: ClassVar[str] = "ptuning"
    group: ClassVar[Group] = "addition"
    source: ClassVar[str] = "X. Liu et al., GPT Understands, Too, 2021, arXiv:2103.10385"

    length: int = 10
    encoder: str = "lstm"

    def __post_init__(self) -> None:
        at_least(self.name, 1, length=self.length)
        if self.encoder not in ENCODERS:
            raise unknown(f"encoder of method {self.name!r}", self.encoder, ENCODERS)

    @property
    def merges(self) -> bool:
        """A prompt is no change of the network's own parameters."""
        return False

    def attach(self, model: nn.Module, setting: Setting) -> Attached:
        """Put a prompt and its encoder before the texts."""
        name, transformer, words = embeddings(model, self.name)
        draw = generator(setting.seed, "ptuning")
        encoder = Encoder(self.length, words.shape[1], recurrent=self.encoder == "lstm", draw=draw)
        return Written(model, name, Prompted(transformer, encoder))
