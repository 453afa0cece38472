r"""Sizes of a spectrum: how many directions it has, counted in several ways.

Of the singular values :math:`\sigma_1 \ge \sigma_2 \ge \dots` with energy shares
:math:`p_i = \sigma_i^2 / \sum \sigma^2`:

.. math::
    \text{stable rank } \frac{\sum \sigma^2}{\sigma_1^2} = \frac1{p_1},\quad
    \text{participation ratio } \frac1{\sum p_i^2},\quad
    \text{effective rank } e^{-\sum p_i \ln p_i},\quad
    \text{energy rank}_x \min\Big\{r : \sum_{i\le r} p_i \ge x\Big\} .

They are the exponentials of Rényi entropies of order ∞, 2 and 1, and the rank is that of order 0, so

    stable rank ≤ participation ratio ≤ effective rank ≤ rank,

with equality throughout for a flat spectrum; none changes with scale or rotation.

Counts against noise need a level. ``matrix_rank`` counts what round-off of the decomposition leaves;
``numerical_rank`` what rounding to the stored format could not have made. ``mp_edge`` takes the level from
the spectrum itself: the edge of independent equal noise with the same median singular value, above which are the
``spikes``; ``gavish_donoho_rank`` counts what is worth keeping for the least squared error. Both suppose that most
directions are noise.

References: O. Roy and M. Vetterli, *The effective rank: a measure of effective dimensionality*, EUSIPCO (2007);
M. Rudelson and R. Vershynin, *Sampling from large matrices*, J. ACM 54 (2007), for the stable rank;
M. Gavish and D. Donoho (2014), arXiv:1305.5870.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from idim.errors import RequestError
from idim.spectral.noise import random_matrices

Floats = NDArray[np.float64]

ROUND_OFF = 1e-12  # of a sum of shares that should be one
EPSILON = 2.0**-52


@dataclass(frozen=True, kw_only=True)
class Measures:
    """Sizes of one spectrum; those that need all singular values are None where only the leading ones are known.

    Args:
        spectral_norm: largest singular value.
        nuclear_norm: sum of all.
        stable_rank, participation_ratio, effective_rank, energy_rank_90, energy_rank_95, energy_rank_99: see above.
        matrix_rank: singular values above the round-off of float64, as ``numpy.linalg.matrix_rank`` has it.
        numerical_rank: singular values above what rounding to the stored format could have made.
        mp_edge: edge of the Marchenko–Pastur law with the same median.
        spikes: singular values above that edge by more than its fluctuations.
        gavish_donoho_rank: singular values above the optimal hard threshold.
    """

    spectral_norm: float
    nuclear_norm: float | None = None
    stable_rank: float | None = None
    participation_ratio: float | None = None
    effective_rank: float | None = None
    energy_rank_90: int | None = None
    energy_rank_95: int | None = None
    energy_rank_99: int | None = None
    matrix_rank: int | None = None
    numerical_rank: int | None = None
    mp_edge: float | None = None
    spikes: int | None = None
    gavish_donoho_rank: int | None = None


ZERO = Measures(spectral_norm=0.0, nuclear_norm=0.0, matrix_rank=0, numerical_rank=0, spikes=0, gavish_donoho_rank=0)
"""Of a change that is zero: the sizes that are ratios have no value."""


def measure(
    values: Floats,
    shape: tuple[int, int],
    *,
    energy: float | None = None,
    noise_edge: float = 0.0,
    error_bound: float = 0.0,
    false_positive_rate: float = 0.01,
) -> Measures:
    """Return the sizes of a spectrum.

    Args:
        values: singular values, descending, the first above zero: all of them, or the leading ones.
        shape: (m, n) of the matrix, as far as it is not zero.
        energy: ‖Δ‖²_F where ``values`` are only the leading ones; None when they are all.
        noise_edge: largest singular value that rounding to the stored format could have made.
        error_bound: of each value.
        false_positive_rate: at which noise alone would be called a spike.

    Raises:
        RequestError: when there is no positive value, or one is not finite or out of order.
    """
    _checked(values)
    total = float(values @ values) if energy is None else energy
    share = np.square(values) / total
    above = int((values > max(noise_edge, error_bound)).sum())
    head = Measures(
        spectral_norm=float(values[0]),
        stable_rank=float(1 / share[0]),
        energy_rank_90=energy_rank(share, 0.90),
        energy_rank_95=energy_rank(share, 0.95),
        energy_rank_99=energy_rank(share, 0.99),
        numerical_rank=above if above < len(values) or energy is None else None,
    )
    return head if energy is not None else _completed(head, values, share, shape, error_bound, false_positive_rate)


def _completed(
    head: Measures, values: Floats, share: Floats, shape: tuple[int, int], error_bound: float, rate: float
) -> Measures:
    """Add the sizes that need every singular value."""
    floor = max(error_bound, max(shape) * EPSILON * float(values[0]))
    level = float(np.median(values)) / random_matrices.median(*shape) if len(values) == min(shape) else 0.0
    spike = random_matrices.edge(*shape, rate) * level
    return replace(
        head,
        nuclear_norm=float(values.sum()),
        participation_ratio=float(1 / (share @ share)),
        effective_rank=effective_rank(share),
        matrix_rank=int((values > floor).sum()),
        numerical_rank=min(head.numerical_rank or 0, int((values > floor).sum())),
        mp_edge=random_matrices.asymptotic_edge(*shape) * level,
        spikes=int((values > max(floor, spike)).sum()),
        gavish_donoho_rank=int((values > max(floor, _threshold(values, shape))).sum()),
    )


def effective_rank(share: Floats) -> float:
    """Return the exponential of the entropy of energy shares."""
    positive = share[share > 0]
    return math.exp(-float(positive @ np.log(positive)))


def energy_rank(share: Floats, x: float) -> int | None:
    """Return the least r whose leading shares reach ``x``; None where the known ones do not."""
    found = int(np.searchsorted(np.cumsum(share), x * (1 - ROUND_OFF))) + 1
    return found if found <= len(share) else None


def residual_curve(values: Floats, energy: float | None = None) -> Floats:
    """Return ‖A - A_r‖_F / ‖A‖_F of the best approximations A_r of rank r = 0, 1, … (Eckart and Young 1936).

    Args:
        values: singular values, descending.
        energy: ‖A‖²_F where ``values`` are only the leading ones.
    """
    tails = np.concatenate([np.cumsum(np.square(values)[::-1])[::-1], [0.0]])
    missing = 0.0 if energy is None else max(energy - float(tails[0]), 0.0)
    found: Floats = np.sqrt((tails + missing) / (tails[0] + missing))
    return found


def _threshold(values: Floats, shape: tuple[int, int]) -> float:
    return random_matrices.hard_threshold(*shape) * float(np.median(values))


def _checked(values: Floats) -> None:
    if not len(values) or not np.isfinite(values).all() or not values[0] > 0 or (np.diff(values) > 0).any():
        raise RequestError(
            "singular values must be finite, descending and the first above zero; "
            f"received {len(values)}, the first {values[:3].tolist()}"
        )
