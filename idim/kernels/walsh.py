r"""The Walsh–Hadamard transform :math:`x \mapsto H_n x`, unnormalised: :math:`H_{2n} = H_2 \otimes H_n`, :math:`H_1=1`.

With :math:`i, j` in binary, :math:`(H_n)_{ij} = (-1)^{\operatorname{popcount}(i \wedge j)}` (Sylvester's order).
:func:`fwht` is the reference on any device; :func:`fwht_inplace` is the CPU kernel.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from idim.errors import RequestError


def check_length(n: int) -> None:
    """Raise :class:`RequestError` unless ``n`` is a power of two."""
    if n < 1 or n & (n - 1):
        raise RequestError(f"a Walsh-Hadamard transform needs a power-of-two length; received {n}")


def fwht(x: Tensor) -> Tensor:
    """Return H x along the last dimension of ``x``: any shape ``[..., n]``, float dtype and device.

    Raises:
        RequestError: when n is not a power of two.
    """
    n = x.shape[-1]
    check_length(n)
    h = 1
    while h < n:
        pairs = x.reshape(*x.shape[:-1], n // (2 * h), 2, h)
        a, b = pairs.unbind(-2)
        x = torch.stack((a + b, a - b), dim=-2).reshape(x.shape)
        h *= 2
    return x


def fwht_inplace(blocks: np.ndarray) -> None:
    """Replace every row of ``blocks``, contiguous ``[m, n]`` float32 or float64, by its transform.

    Raises:
        RequestError: when n is not a power of two.
    """
    check_length(blocks.shape[1])
    _transform(blocks)


@numba.njit(nogil=True, cache=True)
def _transform(blocks: np.ndarray) -> None:
    m, n = blocks.shape
    for b in range(m):
        x = blocks[b]
        h = 1
        while h < n:
            for start in range(0, n, 2 * h):
                left, right = x[start : start + h], x[start + h : start + 2 * h]
                for j in range(h):
                    u, v = left[j], right[j]
                    left[j], right[j] = u + v, u - v
            h *= 2
