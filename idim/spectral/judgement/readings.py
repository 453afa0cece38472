"""Which noise a change is held against: the reading of a pair's rounding that the data bear, and whether to draw it."""

from __future__ import annotations

import math

from torch import Tensor

from idim.spectral.decomposition.deflate import Resolved
from idim.spectral.decomposition.scan import Scan
from idim.spectral.judgement.verdict import CLEAR, REFUTED, Left, left_beyond
from idim.spectral.noise.null import Compared
from idim.spectral.noise.pair_noise import Rounding, computed
from idim.spectral.noise.rerounding import Rerounding

STILL = 0.005
"""Fraction of unchanged weights from which a low-rank change is rounded again: Δ is then within 100 spacings."""
LOST, TOO_MUCH = 0.9, 1.5
"""Gain below which, and energy over the expected above which, no draw has looked like the change."""
CLOSE = 1.2
"""Factor above the computed edge within which a direction is held against draws of the noise."""


def reading_of(readings: list[Rounding], spectrum: Resolved, found: Scan, rate: float) -> tuple[Rounding, Left]:
    """Return the strongest noise that the data do not refute, and what is left beyond the directions above it.

    A change that was itself computed in the tuned format is the reading where only that explains what is left.
    """
    for rounding in readings:
        left = left_beyond(spectrum, rounding, found.support, rate)
        if left.energy >= REFUTED * left.expected:
            break
    weaker = computed(found, rounding, rate)
    beyond = left_beyond(spectrum, weaker, found.support, rate)
    low = 1 <= beyond.directions <= min(found.shape) / 2
    return (weaker, beyond) if low and beyond.explained and not left.explained else (rounding, left)


def close(spectrum: Resolved, rounding: Rounding, left: Left, found: Scan) -> bool:
    """Whether a low rank is in question and a direction hardly stands above the computed edge."""
    r, low = left.directions, left.directions <= min(found.shape) / 2
    hardly = r > spectrum.above(CLOSE * left.edge)
    return low and hardly and rounding.dithered and found.gram is not None


def drawn_again(
    found: Scan, base: Tensor, tuned: Tensor, spectrum: Resolved, rounding: Rounding, left: Left, seed: int
) -> Compared | None:
    """Compare with rounded draws, where rounding may depend on the change and a low rank is in question."""
    r = left.directions
    low = 1 <= r <= min(found.shape) / 2 and r < min(found.support)
    if not low or found.gram is None or not _coarse(found) or not _worth_drawing(spectrum, rounding, left):
        return None
    return Rerounding(found, base, tuned, spectrum, rounding, r, seed).least(r)


def _coarse(found: Scan) -> bool:
    """Whether rounding kept so many weights still that its error may depend on the change."""
    still = 1 - (found.size - found.unchanged) / math.prod(found.support)
    return found.base_grid.within(found.tuned_grid) and still >= STILL


def _worth_drawing(spectrum: Resolved, rounding: Rounding, left: Left) -> bool:
    """Whether draws of one rounding could change the verdict.

    Not where there were several, too much is lost or left, or all stands clear of the noise.
    """
    hopeless = rounding.roundings > 1 or rounding.noise.gain < LOST or left.energy > TOO_MUCH * left.expected
    return not hopeless and not (
        rounding.dithered and left.explained and spectrum.above(CLEAR * left.edge) == left.directions
    )
