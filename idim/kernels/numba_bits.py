"""The hash of :mod:`idim.kernels.bits` inside compiled CPU kernels: the same bits, one word at a time."""

from __future__ import annotations

import numba
import numpy as np

from idim.kernels.bits import HIGH, MIX_A, MIX_B, PHI

_PHI, _HIGH, _A, _B = np.uint32(PHI), np.uint32(HIGH), np.uint32(MIX_A), np.uint32(MIX_B)
_15, _16 = np.uint32(15), np.uint32(16)


@numba.njit(inline="always")
def _mix(x: np.uint32) -> np.uint32:
    x = np.uint32(x ^ (x >> _16))
    x = np.uint32(x * _A)
    x = np.uint32(x ^ (x >> _15))
    x = np.uint32(x * _B)
    return np.uint32(x ^ (x >> _15))


@numba.njit(inline="always")
def hash32(key0: np.uint32, key1: np.uint32, low: np.uint32, high: np.uint32) -> np.uint32:
    """Return the stream's 32-bit number at index ``high * 2**32 + low``."""
    x = _mix(np.uint32(np.uint32(low * _PHI) + key0))
    return _mix(np.uint32(x + np.uint32(high * _HIGH) + key1))
