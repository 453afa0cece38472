"""Adapters of convolutions: linear 1 x 1 convolutions in series with, or parallel to, those of residual blocks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from idim.methods.additions.wrappers import Behind, Beside
from idim.methods.places import body_modules


class Pointwise(nn.Module):
    """A 1 x 1 convolution of zeros, or where that takes fewer numbers, a drawn one to ``width`` channels before it.

    Args:
        channels: in.
        filters: out.
        width: the largest rank.
        stride: between the points it looks at.
        draw: the first of two is drawn from it, from N(0, 1 / channels).
    """

    def __init__(self, channels: int, filters: int, *, width: int, stride: int, draw: torch.Generator) -> None:
        super().__init__()
        factored = width * (channels + filters) < channels * filters
        layers = [_pointwise(channels, width, stride), _pointwise(width, filters, 1)]
        self.maps = nn.Sequential(*(layers if factored else [_pointwise(channels, filters, stride)]))
        for layer in list(self.maps)[:-1]:
            nn.init.normal_(layer.get_parameter("weight"), std=channels**-0.5, generator=draw)

    def forward(self, x: Tensor) -> Tensor:
        """Return [n, filters, height / stride, width / stride] in the precision of x, computed in float32."""
        answer: Tensor = self.maps(x.float())
        return answer.to(x.dtype)


def adapters_of_blocks(model: nn.Module, *, kind: str, width: int, draw: torch.Generator) -> dict[str, nn.Module]:
    """Return the convolutions of residual blocks, by name, each with an adapter around it."""
    fresh: dict[str, nn.Module] = {}
    for name, block in body_modules(model):
        convolutions = {leaf: m for leaf, m in block.named_children() if isinstance(m, nn.Conv2d)}
        if convolutions.keys() >= {"conv1", "conv2"}:
            if kind == "pfeiffer":
                convolutions = dict(list(convolutions.items())[-1:])
            for leaf, convolution in convolutions.items():
                fresh[f"{name}.{leaf}"] = _around(convolution, kind, width, draw)
    return fresh


def _around(convolution: nn.Conv2d, kind: str, width: int, draw: torch.Generator) -> nn.Module:
    channels, filters = convolution.in_channels, convolution.out_channels
    if kind == "parallel":
        stride = convolution.stride[0]
        return Beside(convolution, Pointwise(channels, filters, width=width, stride=stride, draw=draw))
    return Behind(convolution, Pointwise(filters, filters, width=width, stride=1, draw=draw))


def _pointwise(channels: int, filters: int, stride: int) -> nn.Conv2d:
    layer = nn.Conv2d(channels, filters, 1, stride=stride, bias=False, device="meta", dtype=torch.float32)
    layer = layer.to_empty(device="cpu")
    nn.init.zeros_(layer.weight)
    return layer
