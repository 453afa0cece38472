r"""The rounding noise of a pair: how much of the change it is, and how large a direction it could fake.

The tuned numbers lie on a grid (:mod:`idim.spectral.reading.grids`), so the change that is read differs from the change
that was made by an error of variance :math:`u_{ij}^2/12`, where u is the spacing at that weight:
:mod:`idim.spectral.noise.rounding` has the law. Which entries err follows from the pair:

*The base is on the tuned grid* (the usual case): a weight that was not changed at all has no error. Unchanged weights
beyond those that rounding would have kept still are taken for such, and rows or columns without any
change are left out altogether.

*The base is finer* (float32 stored as bfloat16): every weight has been rounded, changed or not.

*The base is on a coarser grid than the tuned model* (a bfloat16 base, tuned in float32): the base may have been
rounded from what the tuning began with. Then its error is in the change too; :func:`candidates` gives both
readings, and the data refute the first where the change leaves less beside its directions than that error is.

*The change itself was computed in the tuned format*: an adapter's product, added to weights that are hardly larger
than it, has errors of its own, about an ulp of the change at each weight. :func:`computed` adds them, for
where one rounding of the sum does not explain a remainder and this does.

The largest singular value of the error, at a stated rate, comes from the sums of its variances by row and by column
(:mod:`idim.spectral.noise.random_matrices`). Errors stronger than single roundings, such as those of an optimizer that
rounds its weights at every step, are changes of the weights here and not noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from idim.spectral.decomposition.scan import Scan, Sums
from idim.spectral.noise import random_matrices
from idim.spectral.noise.rounding import Loss, loss

DITHERED = 0.99
"""Gain from which the error is independent of the change, as the uniform law has it."""


COMPUTED = 0.8
"""Relative error of a change computed in the tuned format, in units of 2**-bits: that of a product of some 16 terms."""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What rounding to the stored formats adds to a change.

    Args:
        model: which numbers were rounded to what, in words.
        share: norm of the rounding error over that of the change before rounding, in expectation.
        unchanged: fraction of weights that are the base's, in the tuned format.
        level: root mean square of the error over the weights that can have one.
        edge: largest singular value that rounding alone could make, at the stated rate.
        gain: fraction of the change that survives rounding; 1 where the change is coarser than the grid.
        draws: how many draws of the error the edge rests on; 0 where it was computed.
    """

    model: str
    share: float
    unchanged: float
    level: float
    edge: float
    gain: float
    draws: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Rounding:
    """Rounding noise with what a judgement needs beside the figures.

    Args:
        noise: the figures.
        energy: expected ‖error‖²_F as it stands beside the change's directions.
        spread: relative standard deviation of that energy.
        variances: of the errors, summed by row and by column.
        still: which part of the variance the weights that did not move have.
    """

    noise: Noise
    energy: float
    spread: float
    variances: Sums = field(repr=False)
    still: float

    @property
    def dithered(self) -> bool:
        """Whether the error is independent of the change."""
        return self.noise.gain >= DITHERED


def candidates(scan: Scan, rate: float) -> list[Rounding]:
    """Return the readings of a pair's rounding, the strongest noise first; the last one is certain to be there."""
    own = _tuned(scan, rate)
    return [own] if scan.base_spacing is None else [_both(scan, own, rate), own]


def computed(scan: Scan, own: Rounding, rate: float) -> Rounding:
    """Return the noise where the change was computed in the tuned format before it was added."""
    errors = scan.change.scaled((COMPUTED * 2.0**-scan.tuned_grid.bits) ** 2)
    words = f"{own.noise.model}, of a change computed in that format"
    both = _rounding(scan, words, own.variances + errors, None, own.still, rate)
    return both if own.dithered else own


def _tuned(scan: Scan, rate: float) -> Rounding:
    words = f"round to nearest {scan.tuned_grid.name}"
    if not scan.base_grid.within(scan.tuned_grid):
        return _rounding(scan, words, scan.tuned_spacing.scaled(1 / 12), None, 1.0, rate)
    lost = loss(scan.sample, scan.change.total / math.prod(scan.support))
    still = _rounded_away(scan, lost)
    variances = scan.moved_spacing.kept(scan.tuned_spacing, scan.change, still).scaled(1 / 12)
    if lost.gain < DITHERED:
        variances = variances.scaled(lost.spread**2 * math.prod(scan.support) / max(variances.total, 1e-300))
    return _rounding(scan, words, variances, lost, still, rate)


def _rounded_away(scan: Scan, lost: Loss) -> float:
    """Return which part of the unchanged weights, in rows and columns that changed, rounding has kept still."""
    size = math.prod(scan.support)
    still = size - (scan.size - scan.unchanged)
    return min(1.0, lost.zero * size / still) if still > 0 else 0.0


def _both(scan: Scan, own: Rounding, rate: float) -> Rounding:
    assert scan.base_spacing is not None
    words = f"{own.noise.model}, the base to nearest {scan.base_grid.name}"
    return _rounding(scan, words, own.variances + scan.base_spacing.scaled(1 / 12), None, own.still, rate)


def _rounding(scan: Scan, words: str, variances: Sums, lost: Loss | None, still: float, rate: float) -> Rounding:
    m, n = scan.support
    energy = variances.total
    edge = random_matrices.profile_edge(variances.rows, variances.columns, rate)
    edge = random_matrices.with_outlier(edge, scan.largest_spacing / 2, m, n, energy / max(m * n, 1))
    change = scan.change.total
    return Rounding(
        noise=Noise(
            model=words,
            share=lost.error / lost.scale if lost else math.sqrt(energy / change),
            unchanged=scan.unchanged / scan.size,
            level=lost.error if lost and lost.gain < DITHERED else math.sqrt(energy / max(m * n, 1)),
            edge=edge,
            gain=lost.gain if lost else 1.0,
        ),
        energy=energy,
        spread=_spread(scan),
        variances=variances,
        still=still,
    )


def _spread(scan: Scan) -> float:
    """Return the relative standard deviation of a sum of squared uniform errors (kurtosis 9/5)."""
    squares = np.square(scan.sample)
    irregular = float(np.square(squares / squares.max()).mean() / (squares / squares.max()).mean() ** 2)
    return math.sqrt((9 / 5 * irregular - 1) / math.prod(scan.support))
