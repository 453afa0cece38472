"""Which matrix, or matrices, a stored tensor is analysed as.

| stored | analysed as |
| --- | --- |
| [m, n] | itself |
| [out, in, k...] (convolution) | (out, in · k · ...) |
| [1, m, n] (a learned position) | (m, n) |
| [e, m, n] of a module named "experts" | e matrices, ``name[0]`` to ``name[e - 1]`` |
| [n], [], [1, 1, n] | no matrix: norms only |
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class View:
    """One matrix of a stored tensor, or a vector (``matrix`` None).

    ``index`` picks a matrix of a stack; ``rows`` is how many rows of the first axis both models have.
    """

    name: str
    matrix: tuple[int, int] | None
    reshaped: str = ""
    index: int | None = None

    def of(self, tensor: Tensor) -> Tensor:
        """Return the matrix, or the tensor as it is where there is none."""
        return tensor if self.matrix is None else tensor.reshape(self.matrix)


def views(name: str, shape: tuple[int, ...]) -> tuple[View, ...]:
    """Return what a tensor of this name and shape is analysed as."""
    long = [side for side in shape if side != 1]
    if len(shape) < 2 or (len(shape) > 2 and len(long) < 2):
        return (View(name=name, matrix=None),)
    if len(shape) == 2:
        return (View(name=name, matrix=(shape[0], shape[1])),)
    if len(shape) == 3 and "expert" in name:
        matrix = shape[1:]
        told = f"matrix of a stack {shape}"
        return tuple(View(name=f"{name}[{i}]", matrix=matrix, reshaped=told, index=i) for i in range(shape[0]))
    if len(shape) == 3 and shape[0] == 1:
        return (View(name=name, matrix=shape[1:], reshaped=f"{shape} as {shape[1:]}"),)
    matrix = (shape[0], math.prod(shape[1:]))
    return (View(name=name, matrix=matrix, reshaped=f"convolution {shape} as {matrix}"),)
