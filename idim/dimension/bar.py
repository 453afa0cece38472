"""The bar: the score that a subspace run has to reach, as the user asks for it and as a number.

A bar is *absolute* (the score itself), a *fraction* of the mean score of the reference runs, or
the same fraction of what the reference gains *above chance*, where chance is the score of the
best constant answer. The last two are as uncertain as the reference they stand on;
:meth:`Bar.error` says how much.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from idim.errors import RequestError, unknown

Kind = Literal["absolute", "fraction", "above-chance"]


@dataclass(frozen=True, kw_only=True)
class Bar:
    """What to reach.

    Args:
        kind: ``absolute``, ``fraction`` (of the reference) or ``above-chance``.
        value: the score, or the fraction, in (0, 1].

    Raises:
        RequestError: for an unknown kind, or a value outside (0, 1].
    """

    kind: Kind = "fraction"
    value: float = 0.9

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise unknown("kind of bar", self.kind, get_args(Kind))
        if not 0 < self.value <= 1:
            raise RequestError(f"the bar must be in (0, 1]; received {self.value}")

    @classmethod
    def parse(cls, text: str) -> Bar:
        """Read ``0.9`` (a fraction of the reference), ``absolute:0.9`` or ``above-chance:0.9``.

        Raises:
            RequestError: for another form, an unknown kind, or a value outside (0, 1].
        """
        kind, _, value = text.rpartition(":")
        try:
            number = float(value)
        except ValueError:
            raise RequestError(
                f"the bar must be a number in (0, 1], absolute:NUMBER or above-chance:NUMBER; received {text!r}"
            ) from None
        return cls(kind=kind or "fraction", value=number)  # type: ignore[arg-type]  # checked by __post_init__

    def __str__(self) -> str:
        return f"{self.value:g}" if self.kind == "fraction" else f"{self.kind}:{self.value:g}"

    @property
    def relative(self) -> bool:
        """Whether the bar needs reference runs."""
        return self.kind != "absolute"

    def threshold(self, reference_mean: float, chance: float) -> float:
        """Return the score to reach; an absolute bar looks at neither argument.

        Raises:
            RequestError: for a relative bar, when the reference is not above chance.
        """
        if not self.relative:
            return self.value
        if not reference_mean > chance:  # also when either is nan
            raise RequestError(
                f"a bar of {self} needs a reference above chance; received reference {reference_mean:.4g}, "
                f"chance {chance:.4g}: train the reference longer, or give absolute:SCORE"
            )
        floor = chance if self.kind == "above-chance" else 0.0
        return floor + self.value * (reference_mean - floor)

    def error(self, reference_std: float, n: int) -> float:
        """Return the standard error of the threshold, from the sample deviation of ``n`` reference runs.

        Zero for an absolute bar. One run shows no spread, so its error is zero too: give at least two.
        """
        if not self.relative or n < 2:
            return 0.0
        return self.value * reference_std / math.sqrt(n)
