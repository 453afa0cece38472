r"""Few levels for many numbers: k-means in one dimension.

Lloyd's iteration from the quantiles of the numbers: each number goes to the nearest level, each level to the mean of
its numbers, until nothing moves; where no more numbers differ than there are levels, they are the levels. Levels are
then rounded to float16, which is what is written, and numbers go to the nearest rounded level. Nothing is drawn: the
same numbers give the same codes.

Source: S. Lloyd, "Least squares quantization in PCM", 1957, published 1982.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from idim.errors import RequestError

ROUNDS = 100
LARGEST = 65504.0  # of float16


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantised:
    """Numbers as levels of a codebook.

    Attributes:
        codes: which level each number has, int64, [n]; every level has one.
        levels: ascending values of float16, as float32, [L].
    """

    codes: Tensor
    levels: Tensor

    @property
    def values(self) -> Tensor:
        """The numbers as they are decoded, float32, [n]."""
        return self.levels[self.codes]

    @property
    def counts(self) -> list[int]:
        """How many numbers have each level."""
        counts: list[int] = self.codes.bincount(minlength=len(self.levels)).tolist()
        return counts


def quantise(values: Tensor, levels: int) -> Quantised:
    """Return numbers [n] at no more than so many levels.

    Raises:
        RequestError: for fewer than one level, or numbers that are not finite.
    """
    return rounded(values, lloyd(values, levels))


def lloyd(values: Tensor, levels: int) -> Tensor:
    """Return up to so many levels for numbers [n], ascending, in float64.

    Raises:
        RequestError: for fewer than one level, or numbers that are not finite.
    """
    if levels < 1:
        raise RequestError(f"a codebook has at least 1 level; received {levels}")
    values = values.detach().double().flatten()
    if not bool(torch.isfinite(values).all()):
        raise RequestError("only finite numbers can be rounded; received others: the run has diverged")
    distinct: Tensor = torch.unique(values)
    if len(distinct) <= levels:
        return distinct
    shares = (torch.arange(levels, dtype=torch.float64) + 0.5) / levels
    means: Tensor = torch.unique(torch.quantile(values, shares))
    for _ in range(ROUNDS):
        codes = nearest(values, means)
        sums = torch.zeros_like(means).index_add_(0, codes, values)
        moved = torch.where((n := codes.bincount(minlength=len(means))) > 0, sums / n.clamp(min=1), means)
        if torch.equal(moved, means):
            break
        means = moved
    return means


def rounded(values: Tensor, levels: Tensor) -> Quantised:
    """Return numbers at the nearest of levels [L], those in float16, without levels that no number has."""
    book = torch.unique(levels.detach().clamp(-LARGEST, LARGEST).half().float())
    used, codes = torch.unique(nearest(values.detach().flatten(), book), return_inverse=True)
    return Quantised(codes=codes, levels=book[used])


def nearest(values: Tensor, levels: Tensor) -> Tensor:
    """Return the number of the nearest of ascending levels for each value, the lower of two that are as near."""
    return torch.bucketize(values, (levels[1:] + levels[:-1]) / 2)
