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
(:mod:`idim.spectral.noise.random_matrices`).

*A training that rounds its weights at every step* adds up N errors. Where its steps differ from each other and are
not much smaller than the spacing u, the errors are independent and their sum has N times the variance. Equal steps
from a number on the grid err by the same amount each time, up to N² times the variance: :meth:`Rounding.aligned`.
For steps that are smaller the errors depend on the steps, and ``gain`` says so; it is that of an N-th of the change,
the least that steps can be in the mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from idim.spectral.decomposition.scan import Scan, Sums
from idim.spectral.noise import random_matrices
from idim.spectral.noise.rounding import Loss, loss, loss_of

DITHERED = 0.99
"""Gain from which the error is independent of the change, as the uniform law has it."""


ALL_BUT_FEW = 2.0
"""Half spacings, times √N, that N errors hardly ever add up to: three and a half standard deviations."""
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
        gain: fraction of the change that survives rounding, of an N-th of it for N roundings; 1 where that is coarser
            than the grid.
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
        roundings: how many the errors are the sum of.
    """

    noise: Noise
    energy: float
    spread: float
    variances: Sums = field(repr=False)
    still: float
    roundings: int = 1

    @property
    def dithered(self) -> bool:
        """Whether the error is independent of the change."""
        return self.noise.gain >= DITHERED

    @property
    def aligned(self) -> Rounding:
        """The same roundings, each erring like the others: the most that they can add up to, as one error."""
        return replace(self.times(self.roundings), roundings=1)

    def times(self, factor: float) -> Rounding:
        """Return noise of ``factor`` times the energy."""
        scale = math.sqrt(factor)
        noise = replace(
            self.noise, share=scale * self.noise.share, level=scale * self.noise.level, edge=scale * self.noise.edge
        )
        return replace(self, noise=noise, energy=factor * self.energy, variances=self.variances.scaled(factor))


def candidates(scan: Scan, rate: float, roundings: int = 1) -> list[Rounding]:
    """Return the readings of a pair's rounding, the strongest noise first; the last one is certain to be there."""
    own = _tuned(scan, rate, roundings)
    return [own] if scan.base_spacing is None else [_both(scan, own, rate), own]


def computed(scan: Scan, own: Rounding, rate: float) -> Rounding:
    """Return the noise where the change was computed in the tuned format before it was added."""
    errors = scan.change.scaled((COMPUTED * 2.0**-scan.tuned_grid.bits) ** 2)
    words = f"{own.noise.model}, of a change computed in that format"
    both = _rounding(scan, words, own.variances + errors, None, own.still, rate, own.roundings)
    return both if own.dithered else own


def _tuned(scan: Scan, rate: float, roundings: int) -> Rounding:
    words = f"{'round' if roundings == 1 else f'{roundings:,} roundings'} to nearest {scan.tuned_grid.name}"
    if not scan.base_grid.within(scan.tuned_grid):
        return _rounding(scan, words, scan.tuned_spacing.scaled(roundings / 12), None, 1.0, rate, roundings)
    lost = loss(scan.sample, scan.change.total / math.prod(scan.support))
    still = _rounded_away(scan, lost)
    variances = scan.moved_spacing.kept(scan.tuned_spacing, scan.change, still).scaled(roundings / 12)
    if lost.gain < DITHERED:
        wanted = roundings * lost.spread**2 * math.prod(scan.support)
        variances = variances.scaled(wanted / max(variances.total, 1e-300))
    return _rounding(scan, words, variances, lost, still, rate, roundings)


def _rounded_away(scan: Scan, lost: Loss) -> float:
    """Return which part of the unchanged weights, in rows and columns that changed, rounding has kept still."""
    size = math.prod(scan.support)
    still = size - (scan.size - scan.unchanged)
    return min(1.0, lost.zero * size / still) if still > 0 else 0.0


def _both(scan: Scan, own: Rounding, rate: float) -> Rounding:
    assert scan.base_spacing is not None
    words = f"{own.noise.model}, the base to nearest {scan.base_grid.name}"
    return _rounding(
        scan, words, own.variances + scan.base_spacing.scaled(1 / 12), None, own.still, rate, own.roundings
    )


def _rounding(
    scan: Scan, words: str, variances: Sums, lost: Loss | None, still: float, rate: float, roundings: int
) -> Rounding:
    m, n = scan.support
    energy = variances.total
    edge = random_matrices.profile_edge(variances.rows, variances.columns, rate)
    outlier = scan.largest_spacing / 2 * min(roundings, ALL_BUT_FEW * math.sqrt(roundings))
    edge = random_matrices.with_outlier(edge, outlier, m, n, energy / max(m * n, 1))
    change = scan.change.total
    return Rounding(
        noise=Noise(
            model=words,
            share=lost.error / lost.scale * math.sqrt(roundings) if lost else math.sqrt(energy / change),
            unchanged=scan.unchanged / scan.size,
            level=lost.error * math.sqrt(roundings)
            if lost and lost.gain < DITHERED
            else math.sqrt(energy / max(m * n, 1)),
            edge=edge,
            gain=_gain(scan, lost, roundings),
        ),
        energy=energy,
        spread=_spread(scan, roundings),
        variances=variances,
        still=still,
        roundings=roundings,
    )


def _gain(scan: Scan, lost: Loss | None, roundings: int) -> float:
    if roundings == 1:
        return lost.gain if lost else 1.0
    return loss_of(scan.sample, math.sqrt(scan.change.total / math.prod(scan.support)) / roundings).gain


def _spread(scan: Scan, roundings: int) -> float:
    """Return the relative standard deviation of a sum of squared errors, sums of uniform ones (of kurtosis 9/5)."""
    kurtosis = 9 / 5 + 6 / 5 * (1 - 1 / roundings)
    squares = np.square(scan.sample)
    irregular = float(np.square(squares / squares.max()).mean() / (squares / squares.max()).mean() ** 2)
    return math.sqrt((kurtosis * irregular - 1) / math.prod(scan.support))
