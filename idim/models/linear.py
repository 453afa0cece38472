"""``linear``: one linear map without bias, from zero."""

from __future__ import annotations

import math

from torch import nn

from idim.models.layers import dense


def linear(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """Return flatten, then W x with W = 0: the model of the linear tasks, where theta0 = 0."""
    layer = dense(math.prod(input_shape), outputs, bias=False)
    for weight in layer.parameters():
        nn.init.zeros_(weight)
    return nn.Sequential(nn.Flatten(), layer)
