r"""The re-rounding null: what a change of rank r looks like once it is stored on the tuned grid.

Where the change is not much larger than the grid, the rounding error depends on it: weights that should
move too little do not move, and a change of rank one turns into a matrix of full rank with structure of its own,
which stands above independent noise. So changes of rank r are drawn, rounded, and decomposed like the real one.

A draw resembles the real change in all that decides about its rounding: from the singular vectors of its r leading
directions, rows are drawn with replacement and each entry is multiplied by :math:`1 + g/10` with normal g, so that the
new entries are spread like the old ones but fall elsewhere between the grid's numbers; the singular values are those
of the change, freed of noise (:func:`idim.spectral.noise.random_matrices.unshrunk`) and scaled until the drawn change,
rounded, shows with the energy that the real one has. It is added to the real base.

Rank r *explains* the change when the next singular value :math:`\sigma_{r+1}` is not larger than those of the draws,
by more than ``SLACK``, and the energy beyond it is theirs, within ``ENERGY_SLACK``. The rank is the least r that
explains, provided that r - 1 fails clearly, by twice that slack; else it stays open.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from idim.spectral.decomposition.decompose import eigenvalues, leading_vectors
from idim.spectral.decomposition.deflate import Resolved
from idim.spectral.decomposition.scan import Scan, add_gram, block_rows, upright
from idim.spectral.noise.pair_noise import Rounding
from idim.spectral.noise.random_matrices import unshrunk

Floats = NDArray[np.float64]

DRAWS, FEWER_DRAWS, LARGE = 3, 1, 1024  # draws of large matrices hardly differ
SLACK = 0.05
ENERGY_SLACK = 0.1
JITTER = 0.1


@dataclass(frozen=True, kw_only=True)
class Rerounded:
    """The change beside draws of rank r, rounded; ratios of the change to the mean of the draws.

    Args:
        rank: r.
        following: of σ_{r+1}.
        leading: of the energy of the first r directions.
        beyond: of the energy beyond them.
        draws: how many.
    """

    rank: int
    following: float
    leading: float
    beyond: float
    draws: int

    @property
    def enough(self) -> bool:
        """Whether r directions are as many as the change shows."""
        return self.following <= 1 + SLACK

    @property
    def explains(self) -> bool:
        """Whether a change of rank r looks like the real one."""
        close = max(abs(self.beyond - 1), abs(self.leading - 1)) <= ENERGY_SLACK
        return self.enough and close

    @property
    def fails(self) -> bool:
        """Whether more than r directions are certain."""
        return self.following > 1 + 2 * SLACK


class Rerounding:
    """Draws of rounded low-rank changes that resemble one change.

    Args:
        found: of the pair.
        base: [m, n], on the tuned grid.
        tuned: [m, n].
        spectrum: of the change.
        rounding: the noise that its leading directions are freed from.
        largest: largest rank that is asked for.
        seed: of the draws.
    """

    def __init__(
        self, found: Scan, base: Tensor, tuned: Tensor, spectrum: Resolved, rounding: Rounding, largest: int, seed: int
    ) -> None:
        assert found.gram is not None
        self.found, self.base, self.spectrum, self.seed = found, upright(base), spectrum, seed
        self.rows, self.columns = np.flatnonzero(found.change.rows), np.flatnonzero(found.change.columns)
        m, n = found.support
        self.right = leading_vectors(found.gram, largest)
        self.left = _times(self.base, upright(tuned), self.right) / spectrum.values[:largest]
        self.sizes = unshrunk(spectrum.values[:largest], m, n, rounding.energy / (m * n)) / rounding.noise.gain
        self.known: dict[tuple[int, int], Rerounded] = {}

    def least(self, largest: int) -> tuple[Rerounded, Rerounded | None]:
        """Return the least rank up to ``largest`` that is enough, or ``largest``, and the rank below (None for 0)."""
        low, high = 0, largest
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.at(middle, 1).enough else (middle, high)
        draws = DRAWS if len(self.right) < LARGE else FEWER_DRAWS
        return self.at(high, draws), self.at(low, draws) if low else None

    def at(self, rank: int, draws: int) -> Rerounded:
        """Return the change beside ``draws`` draws of one rank."""
        if (rank, draws) not in self.known:
            self.known[rank, draws] = self._compared(rank, draws)
        return self.known[rank, draws]

    def _compared(self, rank: int, draws: int) -> Rerounded:
        real = self.spectrum.squares
        lead = float(real[:rank].sum())
        generator = np.random.default_rng((self.seed, rank))
        factor = math.sqrt(lead / float(self._draw(rank, 1.0, generator)[:rank].sum()))
        drawn = np.mean([self._draw(rank, factor, generator) for _ in range(draws)], axis=0)
        return Rerounded(
            rank=rank,
            following=math.sqrt(max(real[rank], 0.0) / max(drawn[rank], 1e-300)),
            leading=lead / float(drawn[:rank].sum()),
            beyond=self.spectrum.beyond(rank) / max(float(drawn[rank:].sum()), 1e-300),
            draws=draws,
        )

    def _draw(self, rank: int, factor: float, generator: np.random.Generator) -> Floats:
        """Return the squared singular values of one rounded change of that rank, descending."""
        left = _resampled(self.left, self.rows, rank, generator)
        right = _resampled(self.right, self.columns, rank, generator)
        up, down = _with_sizes(left, right, factor * self.sizes[:rank])
        gram, step = None, block_rows(len(right))
        for start in range(0, len(left), step):
            before = self.base[start : start + step].double()
            moved = before + torch.from_numpy(up[start : start + step] @ down)
            gram = add_gram(gram, self.found.tuned_grid.round(moved).sub_(before).numpy())
        assert gram is not None
        return eigenvalues(gram)


def _times(base: Tensor, tuned: Tensor, vectors: Floats) -> Floats:
    """Return the change times ``vectors`` [n, r]."""
    step = block_rows(len(vectors))
    blocks = [slice(start, start + step) for start in range(0, len(base), step)]
    return np.concatenate([(tuned[b].double() - base[b].double()).numpy() @ vectors for b in blocks])


def _resampled(vectors: Floats, places: NDArray[np.int64], rank: int, generator: np.random.Generator) -> Floats:
    """Return ``rank`` columns like those of ``vectors``: rows drawn from ``places``, jittered, put there again."""
    drawn = vectors[generator.choice(places, len(places)), :rank]
    found = np.zeros((len(vectors), rank))
    found[places] = drawn * (1 + JITTER * generator.standard_normal(drawn.shape))
    return found


def _with_sizes(left: Floats, right: Floats, sizes: Floats) -> tuple[Floats, Floats]:
    """Return factors of the product of two sets of columns, with its singular values replaced by ``sizes``."""
    outer, outer_core = np.linalg.qr(left)
    inner, inner_core = np.linalg.qr(right)
    core_left, _, core_right = np.linalg.svd((outer_core * sizes) @ inner_core.T)
    return outer @ (core_left * sizes), core_right @ inner.T
