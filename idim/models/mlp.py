"""``mlp:W1,W2,...``: fully connected layers of these widths with ReLU between them."""

from __future__ import annotations

import itertools
import math

from torch import nn

from idim.models.layers import dense


def mlp(input_shape: tuple[int, ...], outputs: int, widths: tuple[int, ...]) -> nn.Module:
    """Return flatten, then Linear and ReLU for each width, then Linear to ``outputs``; weights unset."""
    sizes = (math.prod(input_shape), *widths, outputs)
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in itertools.pairwise(sizes):
        layers += [dense(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
