"""Layers without weights: PyTorch's own initialisation would draw from the global generator."""

from __future__ import annotations

import torch
from torch import nn


def dense(fan_in: int, fan_out: int, *, bias: bool = True) -> nn.Linear:
    """Return a float32 linear layer on the CPU, its parameters unset."""
    return nn.Linear(fan_in, fan_out, bias=bias, device="meta", dtype=torch.float32).to_empty(device="cpu")


def convolution(channels: int, filters: int, *, side: int) -> nn.Module:
    """Return a valid float32 convolution with ``side`` x ``side`` filters on the CPU, its parameters unset."""
    layer = nn.Conv2d(channels, filters, kernel_size=side, device="meta", dtype=torch.float32)
    return layer.to_empty(device="cpu")
