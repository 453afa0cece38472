r"""Counter-based random numbers: the n-th number of a stream is a pure function of (seed, stream, n).

Nothing is stored and nothing is drawn in order, so any block of rows of a projection can be
regenerated where it is needed, on any device, in any order, and gives the same bits.

A stream is named by a seed and a word. Its 64-bit BLAKE2b digest gives two 32-bit keys
:math:`(k_0, k_1)`, and number :math:`n` (its low and high halves :math:`n_0, n_1`) is

.. math::
    h(n) = m\big(m(n_0 \cdot \phi + k_0) + n_1 \cdot c + k_1\big) \bmod 2^{32},

with :math:`\phi` = 0x9E3779B9, :math:`c` = 0x85EBCA6B and the bijective mixer

.. math::
    m: x \leftarrow x \oplus x/2^{16},\; x \leftarrow x\,a,\; x \leftarrow x \oplus x/2^{15},\;
       x \leftarrow x\,b,\; x \leftarrow x \oplus x/2^{15}

(a = 0x21F0AAAD, b = 0xD35A2D97: the lowest-bias two-round 32-bit constants of C. Wellons' hash
prospector). Two mixers with a key between them keep streams of one seed apart.

Gaussian numbers are exact table look-ups, not logarithms and cosines, because those differ in
the last bit between devices: the upper 16 bits choose one of 65,536 equally likely quantiles of
the normal law, scaled so that the table's variance is one.

The torch functions here are the definition; :mod:`idim.kernels.numba_bits` repeats
:func:`hash32` for CPU kernels and a test holds the two together.
"""

from __future__ import annotations

import functools
import hashlib

import torch
from torch import Tensor

MASK = 0xFFFFFFFF
PHI = 0x9E3779B9
HIGH = 0x85EBCA6B
MIX_A = 0x21F0AAAD
MIX_B = 0xD35A2D97

Key = tuple[int, int]


def stream_key(seed: int, stream: str) -> Key:
    """Return the two 32-bit keys of the stream ``stream`` under ``seed`` (any Python integer)."""
    digest = hashlib.blake2b(f"{seed}/{stream}".encode(), digest_size=8).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")


def _mix(x: Tensor) -> Tensor:
    x = x ^ (x >> 16)
    x = (x * MIX_A) & MASK
    x = x ^ (x >> 15)
    x = (x * MIX_B) & MASK
    return x ^ (x >> 15)


def hash32(key: Key, index: Tensor) -> Tensor:
    """Return the 32-bit numbers of a stream at ``index`` (int64, any shape), as int64 in [0, 2**32).

    int64 products wrap modulo 2**64, so their low 32 bits are right on every device.
    """
    low, high = index & MASK, index >> 32
    x = _mix((low * PHI + key[0]) & MASK)
    return _mix((x + high * HIGH + key[1]) & MASK)


def signs(key: Key, index: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return ±1 at ``index``: minus where bit ``index % 32`` of word ``index // 32`` is set."""
    bit = (hash32(key, index >> 5) >> (index & 31)) & 1
    return (1 - 2 * bit).to(dtype)


def uniforms(key: Key, index: Tensor) -> Tensor:
    """Return float64 numbers at ``index``, uniform on the open interval (0, 1)."""
    return (hash32(key, index).double() + 0.5) * 2.0**-32


@functools.cache
def normal_quantiles() -> Tensor:
    """Return the 65,536 midpoint quantiles of the normal law, float32, variance one, on the CPU."""
    from scipy.special import ndtri

    half = ndtri((torch.arange(32768, 65536).double().numpy() + 0.5) / 65536)
    upper = torch.from_numpy(half)
    upper = upper / upper.square().mean().sqrt()
    return torch.cat([-upper.flip(0), upper]).float()


def gaussians(key: Key, index: Tensor) -> Tensor:
    """Return float32 standard normal numbers at ``index`` (quantiles of 16 bits: |x| < 4.4)."""
    table = normal_quantiles().to(index.device)
    return table[hash32(key, index) >> 16]
