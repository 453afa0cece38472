"""What a process that measures costs is asked, and the network, rows and loss it makes of that.

Time and memory depend on sizes, not on values: weights are drawn, tokens and pixels too, and every row of text has the
full length.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from idim import methods, models
from idim.delta_tuning.cost import Cell, CostPrecision
from idim.methods import Attached, Setting
from idim.models import started
from idim.models.init import generator
from idim.models.layers import dense
from idim.tasks import Task

QUANTISES = "qlora"  # brings its base into four bits by itself
SETTING = Setting(seed=0, steps=100)
VALUES, CLASSES, NEXT_TOKEN = "values", "classes", "next_token"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One method at one precision and several batch sizes.

    Args:
        model: the network's name; a pretrained one is built with drawn weights.
        input_shape, outputs, target: of the task; what its targets are, which is what the loss depends on.
        method, precision: what is trained, and how the frozen base is kept.
        batches, length: rows of a step, each measured in turn; tokens of a row.
    """

    model: str
    input_shape: tuple[int, ...]
    outputs: int
    target: str
    method: str
    precision: CostPrecision
    batches: tuple[int, ...]
    length: int

    def to_json(self) -> dict[str, Any]:
        """Return the job as plain data."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Job:
        """Return the job of plain data."""
        tuples = {name: tuple(content[name]) for name in ("input_shape", "batches")}
        return cls(**(dict(content) | tuples))

    @property
    def cells(self) -> list[Cell]:
        """What it fills."""
        return [(self.method, self.precision, batch, self.length) for batch in self.batches]

    def network(self) -> nn.Module:
        """Return the network in its precision; a fresh head is float32.

        Raises:
            RequestError: when it cannot be built, or has nothing that NF4 is for.
        """
        name = started.model_of(self.model)  # what a step costs does not depend on the weights
        model = models.build(
            f"{models.SCRATCH}{name}" if models.is_pretrained(name) else name,
            input_shape=self.input_shape,
            outputs=self.outputs,
            seed=0,
            next_token=self.target == NEXT_TOKEN,
        )
        if self.precision == "bf16":
            model = model.to(torch.bfloat16)
            if models.has_head(model):
                model.get_submodule(models.HEAD).float()
        return self.rounded(model)

    def rounded(self, model: nn.Module) -> nn.Module:
        """Return a network with its layers in NF4, where that is the precision and no work of the method itself.

        Raises:
            RequestError: when it has nothing that NF4 is for.
        """
        if self.precision == "nf4" and self.method.partition(":")[0] != QUANTISES:
            from idim.methods.quantise import quantise

            quantise(model)
        return model

    def attached(self, network: nn.Module) -> Attached:
        """Put the method on a network.

        Raises:
            CannotAttach: when it has no place for it.
        """
        return methods.attach(methods.parse(self.method), network, SETTING)

    def rows(self, network: nn.Module, batch: int) -> tuple[Tensor, Tensor]:
        """Return inputs and targets of a step."""
        draw = generator(batch, "costs")
        if self.input_shape:
            inputs = torch.rand(batch, *self.input_shape, generator=draw)
            inputs = inputs.to(torch.bfloat16) if self.precision == "bf16" else inputs
        else:
            inputs = self._tokens(network, batch, draw)
        if self.target == CLASSES:
            return inputs, torch.randint(self.outputs, (batch,), generator=draw)
        return inputs, torch.randn(batch, self.outputs, generator=draw)

    def _tokens(self, network: nn.Module, batch: int, draw: torch.Generator) -> Tensor:
        words: int = network.get_submodule("body").config.vocab_size  # type: ignore[union-attr, assignment]
        numbers = torch.randint(words, (batch, self.length), generator=draw)
        return torch.stack([numbers, torch.zeros_like(numbers)], dim=-1).int()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of a step."""
        if self.target == NEXT_TOKEN:
            return outputs.float().sum() / outputs.numel()
        if self.target == CLASSES:
            return nn.functional.cross_entropy(outputs.float(), targets)
        return nn.functional.mse_loss(outputs.float(), targets)

    def small(self) -> nn.Module:
        """Return a tiny network of the same kind, to load and compile what any network of the kind needs."""
        if self.input_shape:
            return nn.Sequential(nn.Flatten(), dense(int(torch.Size(self.input_shape).numel()), self.outputs))
        from transformers import BertConfig, BertModel

        from idim.models.language import TextModel

        config = BertConfig(
            vocab_size=99, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
        )
        with torch.random.fork_rng(devices=[]):
            body = BertModel(config, add_pooling_layer=False)
        return TextModel(body, outputs=self.outputs, causal=False, generator=generator(0, "small"))


def target_of(task: Task) -> str:
    """Return what the targets of a task are."""
    if task.next_token:
        return NEXT_TOKEN
    return VALUES if task.train.targets.is_floating_point() else CLASSES
