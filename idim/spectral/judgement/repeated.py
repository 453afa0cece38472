r"""How many roundings of each number the bulk of a spectrum is like.

The median singular value of noise is known (Marchenko and Pastur), so that of a change gives the level which
independent errors would need; over the level of one rounding, squared, it is a number of roundings. It is told only
where directions stand on a bulk that looks like those roundings: one to half of all are above their edge, and the
energy beyond these is theirs within ``ALIKE``. The bulk of a trained change that falls off like a power law is not.
"""

from __future__ import annotations

import numpy as np

from idim.spectral.decomposition.deflate import Resolved
from idim.spectral.judgement.verdict import left_beyond
from idim.spectral.noise import random_matrices
from idim.spectral.noise.pair_noise import Rounding

FEWEST, MOST = 2, 10_000
ALIKE = 0.2
BULK = 16
"""Singular values from which their median is one of a bulk."""


def roundings_like(spectrum: Resolved, once: Rounding, support: tuple[int, int], rate: float) -> int | None:
    """Return a number of roundings from 2 to 10,000, to two digits; None where the bulk does not look like any.

    Args:
        spectrum: of the change.
        once: the noise of one rounding of each number.
        support: how many rows and columns have changed.
        rate: false-positive rate of the edge.
    """
    if not (once.dithered and spectrum.complete and min(support) >= BULK):
        return None
    middle = float(np.median(spectrum.values))
    count = (middle / random_matrices.median(*support)) ** 2 * support[0] * support[1] / once.energy
    if middle <= spectrum.error_bound or not FEWEST <= count <= MOST:
        return None
    left = left_beyond(spectrum, once.times(count), support, rate)
    ratio = left.energy / left.expected
    told = 1 <= left.directions <= min(support) / 2 and abs(ratio - 1) <= ALIKE
    return round(float(f"{ratio * count:.2g}")) if told else None
