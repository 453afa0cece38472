r"""The bar: the score that a subspace run has to reach, as the user asks for it and as a number.

A bar is *absolute* (the metric itself), a *fraction* of the mean score of the reference runs, or
the same fraction of what the reference gains *above chance*, where chance is the score of the
best constant answer. The last two are as uncertain as the reference they stand on;
:meth:`Bar.error` says how much.

A perplexity is lower where it is better, and its score is :math:`-\ln` of it (:mod:`idim.tasks.metrics`). There,
with :math:`R` the perplexity of the reference (its geometric mean over runs) and :math:`U` that of the untuned decoder,

- ``absolute:30`` is a perplexity of at most 30;
- ``0.9`` is at most :math:`R / 0.9`: the mean probability of a token, :math:`1/R`, is 90 % of the reference's;
- ``above-chance:0.9`` is at most :math:`U^{0.1} R^{0.9}`: 90 % of what full training takes off the loss of the
  untuned decoder, which stands in for chance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from idim.errors import RequestError, unknown
from idim.tasks.metrics import Metric, said, scored, shown

Kind = Literal["absolute", "fraction", "above-chance"]


@dataclass(frozen=True, kw_only=True)
class Bar:
    """What to reach.

    Args:
        kind: ``absolute``, ``fraction`` (of the reference) or ``above-chance``.
        value: the metric, or the fraction, in (0, 1]; a perplexity above 1.
        metric: what is scored.

    Raises:
        RequestError: for an unknown kind, or a value out of range.
    """

    kind: Kind = "fraction"
    value: float = 0.9
    metric: Metric = "accuracy"

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise unknown("kind of bar", self.kind, get_args(Kind))
        if self.metric == "perplexity" and not self.relative:
            if not 1 < self.value < math.inf:
                raise RequestError(f"an absolute bar of perplexity must be above 1; received {self.value}")
        elif not 0 < self.value <= 1:
            raise RequestError(f"the bar must be in (0, 1]; received {self.value}")

    @classmethod
    def parse(cls, text: str, *, metric: Metric = "accuracy") -> Bar:
        """Read ``0.9`` (a fraction of the reference), ``absolute:0.9`` or ``above-chance:0.9``.

        Raises:
            RequestError: for another form, an unknown kind, or a value out of range.
        """
        kind, _, value = text.rpartition(":")
        try:
            number = float(value)
        except ValueError:
            raise RequestError(
                f"the bar must be a number in (0, 1], absolute:NUMBER or above-chance:NUMBER; received {text!r}"
            ) from None
        return cls(kind=kind or "fraction", value=number, metric=metric)  # type: ignore[arg-type]  # checked there

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
            return scored(self.metric, self.value)
        if not reference_mean > chance:  # also when either is nan
            floor = "the untuned perplexity" if self.metric == "perplexity" else "chance"
            raise RequestError(
                f"a bar of {self} needs a reference {'below' if self.metric == 'perplexity' else 'above'} {floor}; "
                f"received reference {self._said(reference_mean)}, {floor} {self._said(chance)}: "
                "train the reference longer, or give absolute:SCORE"
            )
        if self.kind == "fraction" and self.metric == "perplexity":
            return reference_mean + math.log(self.value)
        floor_score = chance if self.kind == "above-chance" else 0.0
        return floor_score + self.value * (reference_mean - floor_score)

    def error(self, reference_std: float, n: int) -> float:
        """Return the standard error of the threshold, from the sample deviation of ``n`` reference runs.

        Zero for an absolute bar. One run shows no spread, so its error is zero too: give at least two.
        """
        if not self.relative or n < 2:
            return 0.0
        slope = 1.0 if self.kind == "fraction" and self.metric == "perplexity" else self.value
        return slope * reference_std / math.sqrt(n)

    def report(self, threshold: float) -> dict[str, Any]:
        """Return kind, fraction and the score to reach, and the perplexity where the score is its logarithm."""
        plain = {"kind": self.kind, "fraction": self.value if self.relative else None, "value": threshold}
        if self.metric != "perplexity":
            return plain
        return plain | {"perplexity": shown(self.metric, threshold) if self.relative else self.value}

    def _said(self, score: float) -> str:
        return said(self.metric, score) if self.metric == "perplexity" else f"{score:.4g}"


def words(bar: Mapping[str, Any], metric: Metric, *, short: bool = False) -> str:
    """Return in words what a report's bar is; ``short`` leaves out what a perplexity is a share of."""
    if metric == "perplexity":
        level = f"perplexity at most {said(metric, bar['value'])}"
        if short:
            return level
        return f"{level}, absolute" if bar["kind"] == "absolute" else f"{level} = {_share_of_perplexity(bar)}"
    if bar["kind"] == "absolute":
        return f"score {bar['value']:g}, absolute"
    what = "the reference" if bar["kind"] == "fraction" else "the reference above chance"
    return f"score {bar['value']:.4f} = {bar['fraction']:g} of {what}"


def _share_of_perplexity(bar: Mapping[str, Any]) -> str:
    if bar["kind"] == "fraction":
        return f"{bar['fraction']:g} of reference token probability"
    return f"{bar['fraction']:g} of full training's fall in loss"
