r"""Fastfood: a Gaussian matrix imitated by fast transforms, the projection of the papers.

P is a stack of blocks of :math:`n \times n`, cut to D rows and d columns, each with its own random factors

.. math::
    P = \frac{1}{\sqrt D} \begin{bmatrix} V_0 \\ V_1 \\ \vdots \end{bmatrix}, \qquad
    V = \frac{1}{\sqrt n}\, S\, H\, G\, \Pi\, H\, B,

in the letters of Le, Sarlós and Smola: B random signs, H the Walsh–Hadamard matrix (entries ±1), Π a random
permutation, G independent standard normal numbers, and S so that the rows of V are as long as those of a Gaussian
matrix, :math:`S_{ii} = s_i / \lVert G \rVert_F` with :math:`s_i` of the χ law with n degrees of freedom. Π is a
chain of three rounds :math:`x \leftarrow a x + c \bmod n,\; x \leftarrow x \oplus \lfloor x / 2^h \rfloor` (a odd),
each a bijection, with fresh numbers in every block.

G has independent signs and equal moments, so :math:`\mathbb{E}[G M G / \lVert G \rVert^2] = \mathrm{diag}(M) / n`,
and with it :math:`\mathbb{E}[P^\top P] = I` for any B and Π, and however many rows are cut.

``form="blocks"`` takes n, the least power of two that is at least d (and 64): O(D log d), and nothing is stored.
``form="global"`` is that of Li et al. and of Aghajanyan et al.: a single block with n ≥ D and without S
(:math:`s_i = \sqrt n`): O(n log n) and some n numbers while it computes, for any range of rows however short.

References:
    Q. Le, T. Sarlós, A. Smola, "Fastfood: Approximate Kernel Expansions in Loglinear Time", 2013, arXiv:1408.3060.
    C. Li, H. Farkhoor, R. Liu, J. Yosinski, "Measuring the Intrinsic Dimension of Objective Landscapes", 2018,
    arXiv:1804.08838.
    A. Aghajanyan, L. Zettlemoyer, S. Gupta, "Intrinsic Dimensionality Explains the Effectiveness of Language Model
    Fine-Tuning", 2020, arXiv:2012.13255.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from idim.errors import unknown
from idim.kernels import fastfood_cpu
from idim.kernels.bits import Key, gaussians, hash32, normal_quantiles, signs, stream_key
from idim.kernels.walsh import fwht
from idim.projections.chunked import CHUNK, Chunked

FORMS = ("blocks", "global")
LEAST = 64  # rows of a block: below, drawing a block costs more than its rows
LEVELS = 4096  # values of the χ law, equally likely


@dataclass(frozen=True, kw_only=True)
class Fastfood(Chunked):
    """Stacked S H G Π H B blocks of n ≥ d rows, or one "global" block of n ≥ D rows (see the module)."""

    form: Literal["blocks", "global"] = "blocks"

    kind: ClassVar[str] = "fastfood"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.form not in FORMS:
            raise unknown("form of 'fastfood'", self.form, FORMS)

    @classmethod
    def parse(cls, option: str) -> dict[str, object]:
        """Read "fastfood:blocks" or "fastfood:global"."""
        if option not in FORMS:
            raise unknown("form of 'fastfood'", option, FORMS)
        return {"form": option}

    @property
    def n(self) -> int:
        """Rows of a block: a power of two, at least d, or D for the global form, and 64."""
        return max(LEAST, 1 << ((self.d if self.form == "blocks" else self.D) - 1).bit_length())

    @property
    def _chunk(self) -> int:
        return max(CHUNK, self.n)

    @property
    def _keys(self) -> tuple[Key, ...]:
        return tuple(stream_key(self.seed, f"fastfood/{letter}") for letter in ("B", "Pi", "G"))

    @property
    def _radii(self) -> Tensor:
        return chi_quantiles(self.n) if self.form == "blocks" else torch.tensor([math.sqrt(self.n)])

    @property
    def _scale(self) -> float:
        return 1 / math.sqrt(self.D * self.n)

    def _factors(self, start: int, stop: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return B, Π, G and S of the blocks that rows [start, stop) touch, each [blocks, n]."""
        n, (b, pi, g) = self.n, self._keys
        blocks = torch.arange(start // n, (stop - 1) // n + 1, device=like.device).unsqueeze(1)
        within = torch.arange(n, device=like.device)
        normal = gaussians(g, blocks * n + within).to(like.dtype)
        radii = self._radii.to(like)
        level = hash32(g, blocks * n + within) & (len(radii) - 1)  # the normal number has the upper 16 bits
        scale = radii[level] / normal.norm(dim=1, keepdim=True)
        return signs(b, blocks * n + within, like.dtype), permutations(pi, blocks, n), normal, scale

    def _lift_reference(self, z: Tensor, start: int, stop: int) -> Tensor:
        b, pi, g, s = self._factors(start, stop, z)
        padded = torch.nn.functional.pad(z * self._scale, (0, self.n - self.d))
        rows = s * fwht(g * fwht(b * padded).gather(1, pi))
        first = start // self.n * self.n
        return rows.flatten()[start - first : stop - first]

    def _pull_reference(self, g: Tensor, start: int) -> Tensor:
        stop = start + g.numel()
        b, pi, normal, s = self._factors(start, stop, g)
        first, last = start // self.n * self.n, -(-stop // self.n) * self.n
        rows = torch.nn.functional.pad(g, (start - first, last - stop)).view(-1, self.n)
        inner = normal * fwht(s * rows)
        return (b * fwht(torch.zeros_like(inner).scatter(1, pi, inner))).sum(dim=0)[: self.d] * self._scale

    def _lift_compiled(self, z: np.ndarray, start: int, out: np.ndarray) -> None:
        scaled = (z * self._scale).astype(z.dtype)
        fastfood_cpu.lift(scaled, start, self.n, *self._tables, out)

    def _pull_compiled(self, g: np.ndarray, start: int, total: np.ndarray) -> None:
        part = np.zeros(self.d)
        fastfood_cpu.pull(g, start, self.n, *self._tables, part)
        total += part * self._scale

    @property
    def _tables(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return np.array(self._keys, np.uint32), normal_quantiles().numpy(), self._radii.numpy()


@functools.lru_cache(maxsize=8)
def chi_quantiles(n: int) -> Tensor:
    """Return LEVELS midpoint quantiles of the χ law with n degrees of freedom, float32, mean square n, on the CPU."""
    from scipy.special import gammaincinv

    square = torch.from_numpy(gammaincinv(n / 2, (np.arange(LEVELS) + 0.5) / LEVELS))
    return (square * (n / square.mean())).sqrt().float()


def permutations(key: Key, blocks: Tensor, n: int) -> Tensor:
    """Return the permutation Π of each block, [blocks, n], n a power of two: entry i is the place that i takes from."""
    half = (n.bit_length() - 1 + 1) // 2
    words = hash32(key, blocks * 8 + torch.arange(6, device=blocks.device))
    x = torch.arange(n, device=blocks.device).expand(len(blocks), n)
    for t in (0, 2, 4):
        x = (x * (words[:, t : t + 1] | 1) + words[:, t + 1 : t + 2]) & (n - 1)
        x = x ^ (x >> half)
    return x
