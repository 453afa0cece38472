"""Gates between a network and the side network that climbs along it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

TEMPERATURE = 0.1


class Rung(nn.Module):
    """One step of a side network: B(mu D(h) + (1 - mu) s), the gate mu at one half to begin with.

    Args:
        down: D, from a hidden state to the side network's size.
        block: B, called with what it works on and, where there is one, the mask.
    """

    def __init__(self, down: nn.Module, block: nn.Module) -> None:
        super().__init__()
        self.down, self.block = down, block
        self.gate = nn.Parameter(torch.zeros(1))

    def forward(self, hidden: Tensor, side: Tensor, *mask: Tensor) -> Tensor:
        """Return the next state of the side network."""
        mu = torch.sigmoid(self.gate / TEMPERATURE)
        climbed: Tensor = self.block(mu * self.down(hidden.float()) + (1 - mu) * side, *mask)
        return climbed
