"""Initial weights: He et al., Delving Deep into Rectifiers, 2015, arXiv:1502.01852, equation 10.

A generator is named by an integer seed and a stream, so that initial weights and data order never
share numbers; no global generator is read or moved.
"""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def generator(seed: int, stream: str) -> torch.Generator:
    """Return a fresh CPU generator at the start of the stream ``stream`` under ``seed`` (any Python integer)."""
    digest = hashlib.blake2b(f"{seed}/{stream}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def he_normal(module: nn.Module, generator: torch.Generator) -> nn.Module:
    """Draw weights from N(0, 2 / fan_in) and set biases to zero, in place, in the order of the parameters."""
    for parameter in module.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)
        else:
            nn.init.zeros_(parameter)
    return module
