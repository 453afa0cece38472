r"""The verdict on one matrix: what can be said of the rank of the change, given the rounding of the stored numbers.

Let D be the change that was made, E the rounding error and :math:`\Delta = D + E` what is read, m × n. Two facts hold
for any matrices (Weyl 1912; Eckart and Young 1936):

.. math::
    \operatorname{rank} D \le r \;\Rightarrow\; \sigma_{r+1}(\Delta) \le \sigma_1(E)
    \quad\text{and}\quad \textstyle\sum_{i>r} \sigma_i(\Delta)^2 \le \lVert E \rVert_F^2 .

So every singular value above the *edge* of the noise, which :math:`\sigma_1(E)` exceeds with the stated probability
only, is a direction of the change; say there are r. What is left beyond them is held against the energy that noise
leaves beside r directions, :math:`(1 - r/m)(1 - r/n)\,\lVert E\rVert_F^2`, known to a fraction of a per cent in most
matrices. Energy in excess of three times that (no error is
larger than half a spacing, whatever its law) must lie in directions that do not stand out, each of which can hide at
most the edge squared, so there are at least excess / edge² more. The verdicts are

``unchanged``
    every weight is the base's (where the formats differ: the base's, rounded to the tuned format).
``low-rank``
    1 ≤ r ≤ min(m, n)/2, and the rounding explains all that is left. Then ``rank`` is r. Any change beyond r directions
    is below the rounding of the stored numbers, so no file of this format could show more. If weights were kept
    still by rounding, the error depends on the change and makes directions of its own, which start at the edge. Unless
    all r directions stand clear of it, drawn changes of rank r, rounded (:mod:`idim.spectral.noise.rerounding`), must
    then look like it and those of rank r - 1 must not; r may be less than the number of directions above the edge.
``full-rank``
    more than min(m, n)/2 directions are certain: those above the edge and the least number hidden below it. Then
    ``rank`` is r, the number above the edge. Hence no change of rank up to min(m, n)/2 is called full-rank but at the
    stated rate, however its spectrum falls off.
``undetermined``
    neither: the rounding hides the answer, or the certain directions and the possible ones lie on both sides of half.
    ``rank`` is None; ``at_least`` still holds.

*Real fine-tuning in float32* usually has a few large directions and a bulk that falls off like a power law, all of it
far above the rounding. That is ``full-rank``, because the change cannot be written with fewer directions without
losing what training put there, even if a few hold most of the energy. Whether they do is another question, which
the measures answer (stable rank, energy ranks, spikes above the null). A hypothesis of "low intrinsic rank" that
tolerates a loss should be stated with that loss, as an energy rank.

*Sparse changes.* A change of k rows (the tokens that were seen) has rank at most k, and that may be low; the sentence
says how many rows have changed, because then the rank tells about the data, not about the layer. A matrix with one
row or column has rank one, which is full.

Why half: a change of rank r is m r + n r numbers as factors; for a square matrix these are fewer than m n
below n/2, and only there.

The rate is that of each test and each matrix. The noise is *one* rounding of each stored number, unless more are
stated. A change that was rounded again at every step on its way (an optimizer that keeps its weights in the stored
format and moves them by little) carries the sum of those errors; beyond its directions stands more than one
rounding leaves, and it is called full-rank where its exact sum would be of low rank. With N roundings stated, errors of
N times the energy explain what is left, and not if it is less than half of theirs. Steps that are equal err alike, if
only in some rows; so only what stands above N times the edge of one rounding, or N² times its energy, counts for
``full-rank``, and for ``low-rank`` all directions must be clear of that edge too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from scipy.special import ndtri

from idim.spectral.decomposition.deflate import Resolved
from idim.spectral.noise.null import Compared, Null
from idim.spectral.noise.pair_noise import Rounding
from idim.spectral.noise.rerounding import Rerounded

Verdict = Literal["low-rank", "full-rank", "unchanged", "undetermined"]

MODEL_ERROR = 0.03
"""How far the law of the rounding error itself is trusted, as a fraction of its energy."""


LARGEST_ERROR = 3.0
"""The most energy that rounding errors can have over what they have when uniform: (u/2)² over u²/12."""
CLEAR = 3.0
"""Factor above the edge that directions made by rounding reach only in a row that goes down to the edge."""
REFUTED = 0.5
"""Fraction of a noise's energy: where less than that is beyond the directions, that noise is not there."""
SPARSE = 0.95
"""Fraction of the rows or columns below which the sentence says how many have changed."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What can be said of the rank: the verdict, the rank if it is known, a lower bound, and why."""

    verdict: Verdict
    rank: int | None
    at_least: int
    why: str


@dataclass(frozen=True, kw_only=True)
class Left:
    """What is beyond the directions that stand above the noise.

    Args:
        directions: r.
        energy: Σ_{i>r} σ².
        expected: what rounding leaves there.
        allowed: the most that it leaves there, at the rate.
        edge: of the noise.
        certain: singular values larger than rounding errors could add up to in one direction, whatever their law.
        least: energy below which the roundings that were stated are not there.
        aligned: the same beyond the most that several roundings can add up to; None for one.
        doubtful: whether several roundings, where they err alike, may have made a direction above their edge.
    """

    directions: int
    energy: float
    expected: float
    allowed: float
    edge: float
    certain: int
    least: float = 0.0
    aligned: Left | None = None
    doubtful: bool = False

    @property
    def explained(self) -> bool:
        """Whether rounding explains it."""
        return self.least <= self.energy <= self.allowed and not self.doubtful

    @property
    def hidden(self) -> int:
        """Least number of directions that hide in it."""
        excess = self.energy - max(self.allowed, LARGEST_ERROR * self.expected)
        return max(0, math.ceil(excess / self.edge**2)) if self.edge > 0 else 0


def left_beyond(spectrum: Resolved, rounding: Rounding, support: tuple[int, int], rate: float) -> Left:
    """Hold what is beyond the directions above the noise against the energy that rounding leaves there."""
    r, (m, n) = spectrum.above(rounding.noise.edge), support
    expected = rounding.energy * (1 - r / m) * (1 - r / n)
    slack = MODEL_ERROR + rounding.spread * float(ndtri(1 - rate))
    round_off = len(spectrum.squares) * spectrum.error_bound**2
    several, clear = rounding.roundings > 1, max(CLEAR, math.sqrt(rounding.roundings)) * rounding.noise.edge
    return Left(
        directions=r,
        energy=spectrum.beyond(r),
        expected=expected,
        allowed=expected * (1 + slack) + round_off,
        edge=rounding.noise.edge,
        certain=max(1, spectrum.above(math.sqrt(LARGEST_ERROR * rounding.energy))),
        least=REFUTED * expected if several else 0.0,
        aligned=left_beyond(spectrum, rounding.aligned, support, rate) if several else None,
        doubtful=several and spectrum.above(clear) < r,
    )


def decide(
    left: Left,
    rounding: Rounding,
    again: Compared | None,
    null: Null,
    shape: tuple[int, int],
    support: tuple[int, int],
    *,
    like: int | None = None,
) -> Decision:
    """Return the verdict on a change that is not zero.

    Args:
        left: what is beyond the directions above the noise.
        rounding: the noise.
        again: the change beside rounded draws of low rank, where that was asked for.
        null: independent entries.
        shape: (m, n); support: how many rows and columns have changed, in the order (long, short).
        like: how many roundings the bulk of the singular values is like; None where it is like none.
    """
    r, small, share = left.directions, min(shape), f"{rounding.noise.share:.3g} of the change"
    sparse, noise, strict = _sparse(shape, support), _noise(rounding), left.aligned or left
    at_least = strict.directions + strict.hidden
    if again is not None:
        return _from_draws(left, rounding, *again, small=small, sparse=sparse)
    if not rounding.dithered:
        kept = f"{rounding.noise.gain:.0%} of {_steps(rounding)}"
        why = f"{sparse}rounding kept {kept} and its error is {share}, so it decides: {_seen(left, small, noise)}"
        return Decision(verdict="undetermined", rank=None, at_least=1, why=why)
    if 1 <= r <= small / 2 and left.explained:
        why = f"{sparse}{r} of {small} directions stand above {noise}, whose error is {share}; it explains the rest"
        return Decision(verdict="low-rank", rank=r, at_least=r, why=why)
    if at_least > small / 2:
        why = f"{sparse}{_full(strict, null, small, share, noise)}{_like(like)}"
        return Decision(verdict="full-rank", rank=strict.directions, at_least=min(at_least, small), why=why)
    why = f"{sparse}{noise}, whose error is {share}, leaves it open: {_seen(left, small, noise)}{_like(like)}"
    return Decision(verdict="undetermined", rank=None, at_least=strict.certain, why=why)


def _noise(rounding: Rounding) -> str:
    return "rounding" if rounding.roundings == 1 else f"the noise of {rounding.roundings:,} roundings"


def _steps(rounding: Rounding) -> str:
    return "the change" if rounding.roundings == 1 else f"steps of one {rounding.roundings:,}th of the change"


def _like(count: int | None) -> str:
    if count is None:
        return ""
    alike = round(math.sqrt(count))
    return f"; the bulk is like {count:,} roundings of each number" + (f", or {alike} that err alike" * (alike > 1))


def _full(left: Left, null: Null, small: int, share: str, noise: str) -> str:
    hidden = f" and {left.hidden} more at least below its edge" if left.directions <= small / 2 else ""
    return (
        f"{left.directions} of {small} directions stand above {noise}{hidden}, whose error is {share}; "
        f"{null.above} stand above independent entries"
    )


def _from_draws(
    left: Left, rounding: Rounding, least: Rerounded, fewer: Rerounded | None, *, small: int, sparse: str
) -> Decision:
    r = least.rank
    found = f"{sparse}rounding, whose error is {rounding.noise.share:.3g} of the change, depends on it: "
    like = f"its direction {r + 1} is {least.following:.3g} and the energy beyond {least.beyond:.3g} times theirs"
    drawn = f"drawn changes of rank {r}, rounded, look like it ({like})"
    close = abs(least.beyond - 1) <= MODEL_ERROR
    if least.explains and (fewer is None or fewer.fails) and (not rounding.dithered or left.explained or close):
        return Decision(verdict="low-rank", rank=r, at_least=r, why=found + drawn)
    why = f"drawn changes of rank {r}, rounded, differ from it ({like})"
    if least.explains:
        why = f"{drawn}, but those of rank {r - 1} do nearly as well, or rounding leaves less"
    return Decision(verdict="undetermined", rank=None, at_least=1, why=found + why)


def _seen(left: Left, small: int, noise: str) -> str:
    ratio = left.energy / left.expected if left.expected > 0 else math.inf
    little = ", some so little that it may have made them" if left.doubtful else ""
    seen = f"{left.directions} of {small} directions stand out{little}"
    return f"{seen}; beyond them is {ratio:.3g} times what {noise} leaves"


def _sparse(shape: tuple[int, int], support: tuple[int, int]) -> str:
    """Say how many rows and columns have changed, where it is clearly not all of them."""
    names = ("rows", "columns") if shape[0] >= shape[1] else ("columns", "rows")
    sides = zip(support, (max(shape), min(shape)), names, strict=True)
    parts = [f"{k} of {n} {what}" for k, n, what in sides if k < SPARSE * n]
    return f"only {' and '.join(parts)} changed; " if parts else ""
