"""What a page takes for granted: the reader's own models and files, at the smallest size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

Namespace = dict[str, Any]


class Labelled(nn.Module):
    """A classifier that returns its loss, as the models of transformers do."""

    class Answer(dict[str, torch.Tensor]):
        """A result with fields."""

        __getattr__ = dict.__getitem__

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 200)
        self.classifier = nn.Linear(200, 3)

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor) -> Answer:
        """Return the loss."""
        return self.Answer(loss=nn.functional.cross_entropy(self.classifier(self.body(inputs).relu()), labels))


def weights(seed: int, size: float) -> dict[str, torch.Tensor]:
    """Return two weight matrices, moved from common ones by a change of that size."""
    base, own = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    names = ("layer.0.query.weight", "layer.1.query.weight")
    return {name: torch.randn(48, 32, generator=base) + size * torch.randn(48, 32, generator=own) for name in names}


def models_on_disk(base: str, *tuned: str) -> None:
    """Write a folder for each model."""
    for seed, name in enumerate((base, *tuned)):
        Path(name).mkdir(parents=True)
        save_file(weights(seed, 0.1 * bool(seed)), f"{name}/model.safetensors")


def readme(names: Namespace) -> None:
    """A model, a batch, four models on disk."""
    batch = {"inputs": torch.ones(6, 12), "labels": torch.arange(6) % 3}
    names.update(torch=torch, model=Labelled(), batch=batch)
    models_on_disk("BASE", "TUNED", "OTHER", "RUN/checkpoint-1", "RUN/checkpoint-2")


def spectrum(names: Namespace) -> None:
    """Two models and the checkpoints between them."""
    names.update(Path=Path)
    models_on_disk("base", "tuned", "run/checkpoint-1", "run/checkpoint-2")


SETUPS: dict[str, Callable[[Namespace], None]] = {"README.md": readme, "docs/spectrum.md": spectrum}


def prepare(page: str, names: Namespace) -> None:
    """Give a page what it takes for granted, in the working folder and the namespace of its code."""
    SETUPS.get(page, lambda _: None)(names)
    names["__name__"] = "page"
