"""``lenet``: two valid 5 x 5 convolutions with max-pooling, then 120, 84 and the outputs.

The 6-16-120-84 form that C. Li et al. measured (2018, arXiv:1804.08838): D = 44,426 for 28 x 28 grey
images and ten classes. After Y. LeCun et al., Gradient-Based Learning Applied to Document Recognition,
Proceedings of the IEEE, 1998.
"""

from __future__ import annotations

from torch import nn

from idim.errors import RequestError
from idim.models.layers import convolution, dense

SMALLEST = 16  # pixels a side that leave at least one after 5x5, /2, 5x5, /2


def lenet(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """Return LeNet for images [channels, height, width]; weights unset.

    Raises:
        RequestError: for inputs that are no images or are smaller than 16 x 16.
    """
    if len(input_shape) != 3 or min(input_shape[1:]) < SMALLEST:
        raise RequestError(
            f"model 'lenet' needs images [channels, height, width] of at least {SMALLEST} x {SMALLEST}; "
            f"received rows of shape {list(input_shape)}"
        )
    channels, height, width = input_shape
    features = 16 * _pooled(height) * _pooled(width)
    return nn.Sequential(
        convolution(channels, 6, side=5), nn.MaxPool2d(2), nn.ReLU(),  # as ReLU first, on a quarter of the values
        convolution(6, 16, side=5), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(),
        dense(features, 120), nn.ReLU(), dense(120, 84), nn.ReLU(), dense(84, outputs),
    )  # fmt: skip


def _pooled(side: int) -> int:
    return ((side - 4) // 2 - 4) // 2
