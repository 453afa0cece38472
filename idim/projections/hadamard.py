r"""``Hadamard``: three rounds of Walsh–Hadamard transforms and random signs, the default kind.

P is a stack of blocks of :math:`n \times n`, n the least power of two that holds d, cut to D rows and d columns:

.. math::
    P = \sqrt{n / D}\; \begin{bmatrix} B_0 \\ B_1 \\ \vdots \end{bmatrix}, \qquad
    B_b = n^{-3/2}\, H S_{b3} H S_{b2} H S_{b1}.

Every block is orthogonal, so the columns of P are exactly orthonormal when n divides D; otherwise the last block
is cut and :math:`\mathbb{E}[P^\top P] = I`. One product costs :math:`3 D \log_2 n` additions and stores nothing.
One round is the map of the subsampled randomised Hadamard transform (N. Ailon and B. Chazelle, "The fast
Johnson-Lindenstrauss transform", 2009); three rounds bring the entries close to those of a random rotation
(F. X. Yu, A. T. Suresh, K. Choromanski, D. Holtmann-Rice and S. Kumar, "Orthogonal random features", 2016,
arXiv:1610.09072, there as structured orthogonal random features).

The order of the rows and the random bits are defined in :mod:`idim.kernels.blocks`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from torch import Tensor

from idim.kernels import blocks, blocks_cpu
from idim.kernels.bits import Key
from idim.projections.base import Integers, Projection, compute_dtype


@dataclass(frozen=True, kw_only=True)
class Hadamard(Projection):
    """Stacked orthogonal blocks of n ≥ d rows; columns orthonormal when n divides D (see the module).

    Raising d keeps the first columns as long as n stays, that is up to the next power of two; then every
    column changes, so the kind is not called nested.
    """

    kind: ClassVar[str] = "hadamard"

    @property
    def n(self) -> int:
        """Rows of a block: the least power of two that is at least d."""
        return 1 << (self.d - 1).bit_length()

    @cached_property
    def _layout(self) -> blocks.Layout:
        return blocks.Layout(D=self.D, n=self.n)

    @cached_property
    def _keys(self) -> tuple[Key, Key, Key]:
        return blocks.sign_keys(self.seed)

    @cached_property
    def _scale(self) -> float:
        return 1 / (self.n * math.sqrt(self.D))

    def _lift(self, z: Tensor, start: int, out: Tensor, base: Tensor | None) -> None:
        if out.device.type == "cpu":
            blocks_cpu.lift(z, start, out, base, self._layout, self._keys, scale=self._scale)
            return
        for at, rows in blocks.lift(z * self._scale, start, start + out.numel(), self._layout, self._keys):
            out[at] = rows if base is None else base[at] + rows

    def _pull_parts(self, parts: Sequence[Tensor], start: int) -> Tensor:
        if parts[0].device.type != "cpu":
            return super()._pull_parts(parts, start)
        dtype = compute_dtype(*parts)
        return blocks_cpu.pull(parts, start, self.d, self._layout, dtype, self._keys, scale=self._scale)

    def _pull(self, g: Tensor, start: int) -> Tensor:
        dtype = compute_dtype(g)
        if g.device.type == "cpu":
            return self._pull_parts([g], start)
        return blocks.pull(g.to(dtype), start, self.d, self._layout, self._keys) * self._scale

    def grain(self, like: Tensor) -> int:
        """Return the rows of a full group of blocks, for float32 and float64 on the CPU."""
        return self._layout.rows if like.device.type == "cpu" and like.dtype == compute_dtype(like) else 0

    def lift_grains(self, z: Tensor, grains: Integers, start: int, out: Tensor, base: Tensor) -> None:
        """Write base + P z into the rows of ``grains`` that lie in ``out``: groups of blocks are made one by one."""
        z = z.detach().to(out.dtype).contiguous()
        blocks_cpu.lift_groups(z, grains, start, out, base, self._layout, self._keys, scale=self._scale)

    def vjp_lines(self, z: Tensor, lines: Integers, values: Tensor, start: int, stop: int) -> Tensor:
        """Return the transposed product with a table of few lines that are not zero."""
        at = self.d, self._layout, compute_dtype(values), self._keys
        return blocks_cpu.pull_lines(lines, values.detach().contiguous(), start, stop, *at, scale=self._scale)
