r"""The null: what a change of independent entries would look like.

A change without any structure but its size has independent entries. Given the sums of squares of the change by row
and by column, the largest singular value of such a change exceeds ``edge`` at the stated rate. Flipping the signs of
the entries at random leaves those sums as they are and destroys every direction (Hong, Sheng and Dobriban); the edge
is what flips would reach, without drawing them. Directions of the change add to the sums, so the edge is high rather
than low and ``above`` counts few rather than many.

``expected`` is how many of its singular values would be above the rounding noise: all of them where the change is
far larger than the grid. A low-rank change of the same size has far fewer, and nothing else beyond the noise.

Reference: D. Hong, Y. Sheng and E. Dobriban, *Selecting the number of components in PCA via random signflips*,
arXiv:2012.02985 (2020).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from idim.spectral.decomposition.deflate import Resolved
from idim.spectral.decomposition.scan import Sums
from idim.spectral.noise import random_matrices
from idim.spectral.noise.rerounding import Rerounded

Compared = tuple[Rerounded, Rerounded | None]
KIND = "independent entries with the change's sums of squares by row and column"


@dataclass(frozen=True, kw_only=True)
class Null:
    """What a change of independent entries, and a rounded one of low rank, would look like.

    Args:
        kind: of the null, in words.
        false_positive_rate: chance that a change from the null shows a direction above its edge.
        edge: of the null, in units of the singular values.
        above: singular values of the change above it.
        expected: singular values that a change from the null would have above the rounding noise.
        draws: how many changes of low rank were drawn and rounded; 0 where that was not needed.
        rerounded: the rank of theirs that was compared; None likewise, as all that follows.
        following: σ_{r+1} of the change over theirs, r being that rank; below that rank by one: ``fewer``.
        beyond: energy beyond r directions, of the change over theirs.
    """

    kind: str
    false_positive_rate: float
    edge: float
    above: int
    expected: int
    draws: int = 0
    rerounded: int | None = None
    following: float | None = None
    fewer: float | None = None
    beyond: float | None = None


def no_null(rate: float) -> Null:
    """Return the null beside a change that is zero, or that is known exactly."""
    return Null(kind="none", false_positive_rate=rate, edge=0.0, above=0, expected=0)


def independent_edge(change: Sums, rate: float) -> float:
    """Return the largest singular value of signflips of a change, from its sums of squares."""
    return random_matrices.profile_edge(change.rows, change.columns, rate)


def null_of(
    change: Sums, support: tuple[int, int], spectrum: Resolved, noise_edge: float, rate: float, again: Compared | None
) -> Null:
    """Return the null's figures beside a change's spectrum.

    Args:
        change: sums of squares of the change.
        support: (rows, columns) that changed.
        spectrum: of the change.
        noise_edge: of the rounding noise.
        rate: false-positive rate.
        again: draws of the least rank that is enough, and of one less.
    """
    edge = independent_edge(change, rate)
    deviation = math.sqrt(spectrum.energy / math.prod(support))
    null = Null(
        kind=KIND,
        false_positive_rate=rate,
        edge=edge,
        above=spectrum.above(edge),
        expected=round(min(support) * random_matrices.bulk_above(noise_edge / deviation, *support)),
    )
    return null if again is None else _with_draws(null, *again)


def _with_draws(null: Null, least: Rerounded, fewer: Rerounded | None) -> Null:
    return replace(
        null,
        draws=least.draws,
        rerounded=least.rank,
        following=least.following,
        fewer=None if fewer is None else fewer.following,
        beyond=least.beyond,
    )
