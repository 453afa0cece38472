r"""One tensor before and after tuning, and the difference :math:`\Delta = W' - W`.

A delta is a view of a pair: the tensors keep the dtype in which they are stored, because the rounding
of that dtype is what the change is judged against. It lives in memory only while it is looked at.

Either ``tuned`` is there, or ``factors`` are: an adapter's change, known exactly as
:math:`\Delta = s\, U V` with :math:`U \in \mathbb{R}^{m \times r}`, :math:`V \in \mathbb{R}^{r \times n}`, which is
never multiplied out for a spectrum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Factors:
    """A change known exactly as ``scale * up @ down``.

    Args:
        up: shape [m, r].
        down: shape [r, n].
        scale: the adapter's scale, such as alpha / r.
    """

    up: Tensor
    down: Tensor
    scale: float

    @property
    def shape(self) -> tuple[int, int]:
        """Return (m, n)."""
        return self.up.shape[0], self.down.shape[1]

    def dense(self) -> Tensor:
        """Return the change multiplied out: float64, shape [m, n]; for tests and small matrices."""
        return self.scale * (self.up.double() @ self.down.double())


@dataclass(frozen=True, kw_only=True, eq=False)
class Delta:
    """One tensor of a pair of models.

    Args:
        name: as in the base, parts separated by "."; a slice of a stack of matrices ends in "[i]".
        shape: as stored.
        matrix: (m, n) it is analysed as; None for vectors and scalars, which have norms only.
        reshaped: "" or how the stored shape became a matrix: "convolution (64, 3, 3, 3) as (64, 27)".
        base: the base's tensor in its stored dtype, of shape ``matrix`` (or ``shape``, where that is
            None); None when an adapter is given without its base.
        tuned: the tuned tensor, like ``base``; None for an adapter with ``factors``.
        factors: an exact low-rank change, in the orientation of ``matrix``.
        made: "" when ``tuned`` is stored; otherwise how it follows from ``base``, which is then exact:
            "theta0 + P z", "merged by peft (dora)".
        note: "" or what the reader should know: rows left out, dtypes that differ.
    """

    name: str
    shape: tuple[int, ...]
    matrix: tuple[int, int] | None
    reshaped: str = ""
    base: Tensor | None = None
    tuned: Tensor | None = None
    factors: Factors | None = None
    made: str = ""
    note: str = ""

    @property
    def size(self) -> int:
        """Number of entries looked at."""
        return math.prod(self.matrix) if self.matrix else math.prod(self.shape)

    def difference(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return tuned minus base in ``dtype`` (float32 or float64), of shape ``matrix`` or ``shape``.

        Tensors of at most 32 bits are subtracted in float32, where the difference of two near numbers
        (a factor of two apart at most) is exact whatever their dtypes; float64 asks for, and float64
        tensors get, the subtraction in float64.
        """
        if self.factors is not None:
            return self.factors.dense().to(dtype)
        if self.tuned is None or self.base is None:
            raise ValueError(f"the difference of {self.name!r} needs a base and a tuned tensor, or factors")
        wide = torch.float64 if torch.float64 in (dtype, self.tuned.dtype, self.base.dtype) else torch.float32
        return self.tuned.to(wide, copy=True).sub_(self.base.to(wide)).to(dtype)
