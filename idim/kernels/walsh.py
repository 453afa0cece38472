r"""The Walsh–Hadamard transform :math:`x \mapsto H_n x`, unnormalised: :math:`H_{2n} = H_2 \otimes H_n`, :math:`H_1=1`.

With :math:`i, j` in binary, :math:`(H_n)_{ij} = (-1)^{\operatorname{popcount}(i \wedge j)}` (Sylvester's order).
The CPU kernels transform in their own memory layouts; this is the reference, and what other devices run.
"""

from __future__ import annotations

import torch
from torch import Tensor

from idim.errors import RequestError


def fwht(x: Tensor) -> Tensor:
    """Return H x along the last dimension of ``x``: any shape ``[..., n]``, float dtype and device.

    Raises:
        RequestError: when n is not a power of two.
    """
    n = x.shape[-1]
    if n < 1 or n & (n - 1):
        raise RequestError(f"a Walsh-Hadamard transform needs a power-of-two length; received {n}")
    h = 1
    while h < n:
        pairs = x.reshape(*x.shape[:-1], n // (2 * h), 2, h)
        a, b = pairs.unbind(-2)
        x = torch.stack((a + b, a - b), dim=-2).reshape(x.shape)
        h *= 2
    return x
