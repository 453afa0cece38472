r"""The spectrum of a pair as precisely as its noise asks: by the Gram matrix, deflated where that is too coarse.

The question is put to the singular values near the edge of the noise and to the energy below it. The Gram matrix
answers while its round-off η (:mod:`idim.spectral.decomposition.decompose`) is small against both; in float32 that
ends where the change is about :math:`10^{5}` times its rounding. Then the leading directions V, which stand
far above, are projected out of the change itself, :math:`\Delta - \Delta V V^\top`, block by block, and the Gram matrix
of that has the rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from idim.spectral.decomposition.decompose import UNIT, eigenvalues, gram_error, leading_vectors, randomized
from idim.spectral.decomposition.scan import Scan, add_gram, differences, upright

Floats = NDArray[np.float64]

RESOLVED = 0.01  # round-off, as a fraction of the noise's energy and of its squared edge
PROJECTION = 8 * UNIT  # round-off of the projection, over ‖Δ‖_F, that could add up in one direction
DEFLATIONS = 3
LEADING = 512


@dataclass(frozen=True, kw_only=True, eq=False)
class Resolved:
    """Squared singular values, descending; round-off may leave some of the last below zero.

    Args:
        squares: all of them, or the leading ones.
        energy: ‖Δ‖²_F.
        method: how they were found.
        error_bound: of each singular value.
        complete: whether they are all.
    """

    squares: Floats = field(repr=False)
    energy: float
    method: str
    error_bound: float
    complete: bool = True

    @property
    def values(self) -> Floats:
        """Return the singular values."""
        return np.sqrt(np.maximum(self.squares, 0.0))

    def above(self, edge: float) -> int:
        """Return how many singular values are above ``edge`` and above their own error."""
        return int((self.values > max(edge, self.error_bound)).sum())

    def beyond(self, r: int) -> float:
        """Return the energy beyond the first r directions."""
        left = self.squares[r:].sum() if self.complete else self.energy - self.squares[:r].sum()
        return max(float(left), 0.0)


def resolve(found: Scan, base: Tensor, tuned: Tensor, *, edge: float, energy: float, seed: int) -> Resolved:
    """Return the spectrum of a scanned pair, fine enough to be held against noise.

    Args:
        found: of this pair.
        base, tuned: the pair, [m, n].
        edge: largest singular value of the noise.
        energy: its ‖·‖²_F.
        seed: of the test vectors, where the matrix is too large for its Gram matrix.
    """
    if found.gram is None:
        return _leading(found, base, tuned, seed)
    squares, bound = eigenvalues(found.gram), gram_error(*found.shape, found.change.total)
    method, gram, wanted = "gram", found.gram, RESOLVED * min(edge**2, energy)
    known: list[Floats] = []
    vectors = np.zeros((len(gram), 0))
    for _ in range(DEFLATIONS):
        r = int((squares > max(edge**2, 16 * bound)).sum())
        if bound <= wanted or not 0 < r <= len(gram) // 2 - vectors.shape[1]:
            break
        method = "gram, deflated"
        known.append(squares[:r])
        vectors = np.linalg.qr(np.hstack([vectors, leading_vectors(gram, r)]))[0]
        gram, left = _deflated(base, tuned, vectors)
        squares = eigenvalues(gram)[: len(gram) - vectors.shape[1]]
        bound = gram_error(*found.shape, left) + found.change.total * PROJECTION**2
    return Resolved(
        squares=np.concatenate([*known, squares])[: min(found.support)],
        energy=found.change.total,
        method=method,
        error_bound=math.sqrt(bound),
    )


def _deflated(base: Tensor, tuned: Tensor, vectors: Floats) -> tuple[Floats, float]:
    """Return the Gram matrix and the energy of the change without the directions ``vectors`` [n, r]."""
    gram = None
    for _, block in differences(upright(base), upright(tuned)):
        gram = add_gram(gram, block - (block @ vectors) @ vectors.T)
    assert gram is not None
    return gram, float(np.trace(gram))


def _leading(found: Scan, base: Tensor, tuned: Tensor, seed: int) -> Resolved:
    change = torch.cat([torch.from_numpy(block).float() for _, block in differences(upright(base), upright(tuned))])
    spectrum = randomized(change, min(LEADING, min(found.shape)), seed=seed)
    return Resolved(
        squares=spectrum.values.square().numpy(),
        energy=found.change.total,
        method=spectrum.method,
        error_bound=spectrum.error_bound,
        complete=False,
    )
