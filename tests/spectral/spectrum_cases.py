"""A small encoder and its tuned twin: one low-rank change, one full, one matrix left as it was."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

WIDTH = 48
LAYER = "encoder.layer.{}"
QUERY, KEY, UP = (
    f"{LAYER}.{part}.weight" for part in ("attention.self.query", "attention.self.key", "intermediate.dense")
)


def normal(*shape: int, seed: int) -> Tensor:
    """Return standard normal numbers, float32."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def planted(m: int, n: int, rank: int, *, seed: int) -> Tensor:
    """Return a matrix of this rank with equal singular values and norm 1, float32."""
    left, _ = torch.linalg.qr(normal(m, rank, seed=seed).double())
    right, _ = torch.linalg.qr(normal(n, rank, seed=seed + 1).double())
    return (left @ right.T / rank**0.5).float()


def encoder(layers: int = 2) -> dict[str, Tensor]:
    """Return weights under BERT's names."""
    tensors = {"embeddings.word_embeddings.weight": normal(100, WIDTH, seed=1) * 0.02}
    tensors["embeddings.position_ids"] = torch.arange(64)
    for layer in range(layers):
        tensors[QUERY.format(layer)] = normal(WIDTH, WIDTH, seed=10 * layer + 2) * 0.02
        tensors[KEY.format(layer)] = normal(WIDTH, WIDTH, seed=10 * layer + 3) * 0.02
        tensors[UP.format(layer)] = normal(4 * WIDTH, WIDTH, seed=10 * layer + 4) * 0.02
        tensors[f"{LAYER.format(layer)}.output.LayerNorm.weight"] = torch.ones(WIDTH)
    return tensors


def tuned(base: dict[str, Tensor], *, rank: int = 2, scale: float = 0.01) -> dict[str, Tensor]:
    """Return the twin: queries changed by ``rank`` directions, up-projections fully, the keys not at all."""
    after = {name: tensor.clone() for name, tensor in base.items()}
    for i, (name, tensor) in enumerate(after.items()):
        if "query" in name:
            tensor += scale * tensor.norm() * planted(*tensor.shape, rank, seed=100 + i)
        elif "intermediate" in name:
            tensor += scale * tensor.norm() / tensor.numel() ** 0.5 * normal(*tensor.shape, seed=200 + i)
        elif "LayerNorm" in name:
            tensor += 0.01
    return after


def write(folder: Path, tensors: dict[str, Tensor]) -> Path:
    """Write a model of one file, and return its folder."""
    folder.mkdir(parents=True)
    safetensors.torch.save_file(tensors, folder / "model.safetensors")
    return folder


def pair(folder: Path) -> tuple[str, str]:
    """Write the encoder and its twin; return their folders."""
    base = encoder()
    return str(write(folder / "base", base)), str(write(folder / "tuned", tuned(base)))
