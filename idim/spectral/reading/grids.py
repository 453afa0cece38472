r"""The numbers a floating-point format can hold: how far apart they are at a given value.

A format with p stored bits of fraction and least normal exponent e has, around x, numbers that are

.. math::
    u(x) = 2^{\max(\lfloor \log_2 |x| \rfloor, e) - p}

apart (one unit in the last place), so what is stored there is wrong by up to :math:`u/2`. A tensor can lie on a
coarser grid than its own format says: float32 files are often bfloat16 weights cast up, and then the coarser grid
is the one that rounded the change.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SAMPLE = 4096
FLOAT32_EXPONENT, FLOAT64_EXPONENT = 0x7F800000, 0x7FF0000000000000


@dataclass(frozen=True)
class Grid:
    """The numbers of one format: its name, bits of fraction and least normal exponent."""

    name: str
    bits: int
    lowest: int

    def spacing(self, x: Tensor) -> Tensor:
        """Return u(x) for values of this grid; float32, or float64 for float64 values; shape of ``x``."""
        if x.dtype == torch.float64:
            power = x.view(torch.int64).bitwise_and(FLOAT64_EXPONENT).view(torch.float64)
        else:
            power = x.float().view(torch.int32).bitwise_and(FLOAT32_EXPONENT).view(torch.float32)
        return power.clamp_min_(2.0**self.lowest).mul_(2.0**-self.bits)

    def round(self, x: Tensor) -> Tensor:
        """Return float64 ``x`` rounded to the nearest number of this grid (even on a tie, no overflow), float64."""
        unit = self.spacing(x)
        return torch.round(x / unit).mul_(unit)

    def within(self, other: Grid) -> bool:
        """Whether ``other`` holds every number of this grid, overflow apart."""
        return self.bits <= other.bits and self.lowest - self.bits >= other.lowest - other.bits


FORMATS = {
    torch.float64: Grid("float64", 52, -1022),
    torch.float32: Grid("float32", 23, -126),
    torch.float16: Grid("float16", 10, -14),
    torch.bfloat16: Grid("bfloat16", 7, -126),
    torch.float8_e4m3fn: Grid("float8_e4m3fn", 3, -6),
    torch.float8_e5m2: Grid("float8_e5m2", 2, -14),
    torch.float8_e4m3fnuz: Grid("float8_e4m3fnuz", 3, -7),
    torch.float8_e5m2fnuz: Grid("float8_e5m2fnuz", 2, -15),
}
COARSER = {
    torch.float64: (torch.bfloat16, torch.float16, torch.float32),
    torch.float32: (torch.bfloat16, torch.float16),
}


def grid_of(x: Tensor) -> Grid:
    """Return the coarsest usual grid on which all of ``x`` lies: that of its format, or of one it was cast from.

    A tensor of few different values, such as zeros, says nothing about a grid and is given that of its format.
    """
    for dtype in COARSER.get(x.dtype, ()):
        if _lies_on(_sample(x), dtype) and _varied(_sample(x)) and _lies_on(x, dtype):
            return FORMATS[dtype]
    return FORMATS[x.dtype]


def _sample(x: Tensor) -> Tensor:
    flat = x.reshape(-1)
    return flat[:: max(1, len(flat) // SAMPLE)]


def _varied(x: Tensor) -> bool:
    """Whether fractions occur that a handful of powers of two, or of round numbers, would not have."""
    fractions = torch.frexp(x[x != 0].double()).mantissa
    return len(fractions) >= 16 and len(torch.unique(fractions.abs())) >= min(16, len(fractions) // 2)


def _lies_on(x: Tensor, dtype: torch.dtype) -> bool:
    if x.dtype == torch.float32 and dtype == torch.bfloat16:
        return not bool((x.contiguous().view(torch.int32) & 0xFFFF).any())
    return bool((x.to(dtype).to(x.dtype) == x).all())
