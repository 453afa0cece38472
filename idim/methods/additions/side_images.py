"""The side network of a residual network: 3 x 3 convolutions beside a shortcut, as narrow as asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from idim.methods.additions.rungs import Rung

STAGE = re.compile("layer[0-9]+")
LEAST = 8  # channels: on a ResNet of eight layers about half of what an adapter keeps for the backward pass


def stages(model: nn.Module) -> list[str]:
    """Return the names of the stages of a residual network, ``layer1`` and so on: sequences of blocks."""
    return [name for name, m in model.named_children() if STAGE.fullmatch(name) and all(_widths(b) for b in _blocks(m))]


def _blocks(stage: nn.Module) -> Iterator[nn.Module]:
    return iter(stage) if isinstance(stage, nn.Sequential) else iter([stage])


def _widths(block: nn.Module) -> tuple[int, int] | None:
    """Return the channels that go into a block of convolutions and come out of it."""
    convolutions = [m for m in block.children() if isinstance(m, nn.Conv2d)]
    return (convolutions[0].in_channels, convolutions[-1].out_channels) if len(convolutions) > 1 else None


class SideBlock(nn.Module):
    """x + two 3 x 3 convolutions of x."""

    def __init__(self, channels: int, draw: torch.Generator) -> None:
        super().__init__()
        first, second = (_convolution(channels, channels, 3, draw) for _ in range(2))
        self.inner = nn.Sequential(first, nn.ReLU(), second)

    def forward(self, x: Tensor) -> Tensor:
        """Return [n, channels, height, width]."""
        moved: Tensor = x + self.inner(x)
        return moved


class SideOfStages(nn.Module):
    """Consecutive stages that keep no activations, and the side network beside their blocks.

    Args:
        inner: the stages, in order.
        reduction: by how much the side network is narrower.
        draw: all fresh weights are drawn from it.
    """

    def __init__(self, inner: Sequence[nn.Module], *, reduction: int, draw: torch.Generator) -> None:
        super().__init__()
        self.stages = nn.ModuleList(inner)
        widths = [_widths(block) for stage in inner for block in _blocks(stage)]
        pairs = [(pair, max(pair[1] // reduction, LEAST)) for pair in widths if pair is not None]
        (start, _), narrow = pairs[0]
        self.first = _convolution(start, narrow, 1, draw)
        self.rungs = nn.ModuleList(
            Rung(_convolution(wide, narrow, 1, draw), SideBlock(narrow, draw)) for (_, wide), narrow in pairs
        )
        (_, end), narrow = pairs[-1]
        self.up = _convolution(narrow, end, 1, None)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the last stage answers, with the side network's answer."""
        side = self.first(x.float())
        rungs: Iterator[Any] = iter(self.rungs)
        for stage in self.stages:
            for block in _blocks(stage):
                with torch.no_grad():
                    x = block(x)
                rung = next(rungs)
                side = rung(x, _fitted(side, rung.block.inner[0].in_channels, x))
        answer: Tensor = x + self.up(side).to(x.dtype)
        return answer


def _fitted(side: Tensor, channels: int, like: Tensor) -> Tensor:
    """Return the side network's state with so many channels, zeros added, at the height and width of another."""
    if side.shape[-2:] != like.shape[-2:]:
        side = F.adaptive_avg_pool2d(side, (like.shape[-2], like.shape[-1]))
    return F.pad(side, (0, 0, 0, 0, 0, channels - side.shape[1]))


def _convolution(channels: int, filters: int, side: int, draw: torch.Generator | None) -> nn.Conv2d:
    """Return a float32 convolution without biases, from N(0, 2 / fan_in), or zero without a generator."""
    layer = nn.Conv2d(channels, filters, side, padding=side // 2, bias=False, device="meta", dtype=torch.float32)
    layer = layer.to_empty(device="cpu")
    if draw is None:
        nn.init.zeros_(layer.weight)
    else:
        nn.init.normal_(layer.weight, std=(2 / (channels * side * side)) ** 0.5, generator=draw)
    return layer
