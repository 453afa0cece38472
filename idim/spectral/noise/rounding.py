r"""What rounding does to a change: the error it adds, and the part of the change it loses.

The tuned weight is stored as :math:`w' = \mathrm{round}(w + \delta)` on a grid of spacing u, so the change one
reads, :math:`\Delta = w' - w`, is the true one plus an error :math:`e`, :math:`|e| \le u/2`.

*Changes larger than the spacing*, or a base that is not on the grid: e is uniform, independent of everything,
of variance :math:`u^2/12`.

*Changes smaller than the spacing of a base on the same grid* are mostly lost: the weight does not move, and where
it does it moves by a whole u. For :math:`\delta \sim N(0, s^2)` and r = round(δ/u) all of it follows from
:math:`x = s/u`,

.. math::
    E[r^2] = \sum_{k\ge1} (2k-1)\,\mathrm{erfc}\frac{k-1/2}{x\sqrt2},\quad
    E[r\,\delta/u] = 2x \sum_{k\ge1} \varphi\Big(\frac{k-1/2}{x}\Big),\quad
    P(r=0) = 1 - \mathrm{erfc}\frac{1}{2x\sqrt2} .

The second over :math:`x^2` is the *gain*: Δ is gain · δ plus what is uncorrelated with δ (Bussgang). It is 0.99 at
x = 0.52, 0.5 at x = 0.26 and 0.02 at x = 0.15: below half a spacing a change vanishes quickly.
The scale s is found from the energy of Δ, over weights whose spacings differ, so that the error can be told even
where hardly any weight moved.

References: J. Bussgang, *Crosscorrelation functions of amplitude-distorted Gaussian signals* (1952);
B. Widrow and I. Kollár, *Quantization Noise*, Cambridge University Press (2008).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfc

Floats = NDArray[np.float64]

TERMS = np.arange(1.0, 33.0) - 0.5
WIDE = 4.0  # from this many spacings on the error is uniform to the last digit of float64


@dataclass(frozen=True)
class Moments:
    """Of r = round(x g) for normal g: E[r²], E[r x g], P(r = 0), each of the shape of x."""

    square: Floats
    product: Floats
    zero: Floats


def moments(x: Floats) -> Moments:
    """Return the moments of a rounded normal number of standard deviation ``x`` spacings."""
    narrow = np.clip(x, 1e-3, WIDE)[..., None]
    square = ((2 * TERMS) * erfc(TERMS / (narrow * math.sqrt(2)))).sum(-1)
    product = 2 * narrow[..., 0] * (np.exp(-np.square(TERMS / narrow) / 2) / math.sqrt(2 * math.pi)).sum(-1)
    zero = 1 - erfc(0.5 / (np.maximum(x, 1e-3) * math.sqrt(2)))
    wide = x >= WIDE
    return Moments(np.where(wide, x**2 + 1 / 12, square), np.where(wide, x**2, product), zero)


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What rounding did to a change of independent normal entries that would show with the same energy.

    Args:
        scale: standard deviation s of the change before rounding.
        gain: what is left of the change, 1 where its entries are larger than the spacing.
        error: root mean square of the rounding error.
        spread: root mean square of what is uncorrelated with the change: Δ - gain · δ.
        zero: expected fraction of weights that did not move.
    """

    scale: float
    gain: float
    error: float
    spread: float
    zero: float


def loss(spacings: Floats, energy: float) -> Loss:
    """Return what rounding on the grid of the base did to a change, from a sample of weights.

    Args:
        spacings: u of every weight of the sample, shape [k].
        energy: mean square of Δ, above zero.
    """
    levels, weights = _levels(spacings)
    return _loss(levels, weights, _scale(levels, weights, energy))


def loss_of(spacings: Floats, scale: float) -> Loss:
    """Return what rounding does to a change of standard deviation ``scale``, above zero; spacings as in ``loss``."""
    return _loss(*_levels(spacings), scale)


def _levels(spacings: Floats) -> tuple[Floats, Floats]:
    """Return the spacings that occur and how often each does, as a fraction."""
    levels, place = np.unique(spacings, return_inverse=True)
    return levels, np.bincount(place) / len(spacings)


def _loss(levels: Floats, weights: Floats, scale: float) -> Loss:
    found = moments(scale / levels)
    kept = float(weights @ (found.product * levels**2))
    shown = float(weights @ (found.square * levels**2))
    gain = kept / scale**2
    return Loss(
        scale=scale,
        gain=gain,
        error=math.sqrt(max(scale**2 - 2 * kept + shown, 0.0)),
        spread=math.sqrt(max(shown - gain * kept, 0.0)),
        zero=float(weights @ found.zero),
    )


def _scale(levels: Floats, weights: Floats, energy: float) -> float:
    """Return the s whose rounded entries have the mean square ``energy``, by bisection on a logarithmic scale."""
    uniform = energy - float(weights @ levels**2) / 12
    if uniform >= (WIDE * float(levels[-1])) ** 2:
        return math.sqrt(uniform)
    low, high = math.sqrt(energy) / 1e3, 1e3 * math.sqrt(energy)
    for _ in range(50):
        middle = math.sqrt(low * high)
        above = float(weights @ (moments(middle / levels).square * levels**2)) > energy
        low, high = (low, middle) if above else (middle, high)
    return math.sqrt(low * high)
