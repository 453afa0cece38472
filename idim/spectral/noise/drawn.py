r"""The edge of rounding noise from draws of it, for where the computed edge is not sharp enough.

The edge that follows from sums by row and by column is that of large matrices; a few weights with a large spacing,
together in a row, can push the largest singular value a few per cent above it. So where a singular value lies just
above the edge, errors are drawn, uniform over one spacing at every weight that can err. The mean of their largest
singular values is the centre of its law; from there to the quantile is as far as in the law of Tracy and Widom.
"""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from idim.spectral.decomposition.decompose import eigenvalues
from idim.spectral.decomposition.scan import Scan, add_gram, blocks, upright
from idim.spectral.noise import random_matrices
from idim.spectral.noise.pair_noise import Rounding

DRAWS = 4


def drawn_edge(found: Scan, base: Tensor, tuned: Tensor, rounding: Rounding, rate: float, seed: int) -> float:
    """Return the largest singular value that errors of the tuned format exceed at ``rate``, from draws.

    Args:
        found: of the pair.
        base, tuned: [m, n].
        rounding: its noise; sources of error beyond the tuned format enlarge the edge by their energy.
        rate: false-positive rate.
        seed: of the draws.
    """
    generator = np.random.default_rng(seed)
    tops = [_top(found, base, tuned, rounding.still, generator) for _ in range(DRAWS)]
    own = rounding.still * found.tuned_spacing.total + (1 - rounding.still) * found.moved_spacing.total
    sizes = (
        random_matrices.effective(found.tuned_spacing.rows),
        random_matrices.effective(found.tuned_spacing.columns),
    )
    reach = random_matrices.quantile_over_mean(*sizes, rate) * math.sqrt(max(rounding.energy / (own / 12), 1.0))
    return max(float(np.mean(tops)) * reach, rounding.noise.edge)


def _top(found: Scan, base: Tensor, tuned: Tensor, still: float, generator: np.random.Generator) -> float:
    gram = None
    for _, before, after in blocks(upright(base), upright(tuned)):
        size = found.tuned_grid.spacing(after).double().numpy()
        size = size * np.where((after == before).numpy(), math.sqrt(still), 1.0) if still < 1 else size
        gram = add_gram(gram, size * (generator.random(size.shape) - 0.5))
    assert gram is not None
    return math.sqrt(float(eigenvalues(gram)[0]))
