"""One method's row of the table."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from idim.delta_tuning.cost import Cost

SHARE = 0.9  # of its own final score
CLOSE = 0.03  # three points

Curve = tuple[tuple[int, float], ...]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A learning rate that was tried, and its score on the selection split; None where training failed."""

    lr: float
    score: float | None


@dataclass(frozen=True, kw_only=True)
class MethodRow:
    """What one method did on the work that all of them share.

    Attributes:
        method, group, source: its name, its group of Ding et al. 2022, its paper.
        merges, through: whether it becomes a plain network; whether back-propagation passes through the network.
        lr: the rate taken, of ``tried``; of its parameters, or of the head where that is all there is.
        scores: report-split score by seed.
        failed: messages of the trainings at the rate taken that failed.
        trained, head: numbers the optimizer saw, of them in the fresh last layer.
        changed: numbers of the network that differ from the base's, the head apart.
        added: numbers put beside the network and kept.
        ranks: ranks of the changes of its matrices (:mod:`idim.runs.anatomy`); None where there are none.
        stored_bytes: what has to be kept beside base and head.
        curve: mean selection-split score by step.
        steps_to_90: steps to 90 % of its own final score, straight between looks; None below the first look's.
        seconds: of one training, mean.
        cost: of a step, at the recipe's batch size and precision.
        why: why it could not be had; there are no numbers then.
    """

    method: str
    group: str
    source: str
    merges: bool = False
    through: bool = True
    lr: float | None = None
    tried: tuple[Trial, ...] = ()
    scores: Mapping[int, float] = field(default_factory=dict)
    failed: tuple[str, ...] = ()
    trained: int | None = None
    head: int | None = None
    changed: int | None = None
    added: int | None = None
    ranks: Mapping[str, Any] | None = None
    stored_bytes: int | None = None
    curve: Curve = ()
    steps_to_90: float | None = None
    seconds: float | None = None
    cost: Cost | None = None
    why: str = ""

    @property
    def mean(self) -> float | None:
        """The mean score."""
        return statistics.fmean(self.scores.values()) if self.scores else None

    @property
    def sd(self) -> float | None:
        """The standard deviation over seeds; None for fewer than two."""
        return statistics.stdev(self.scores.values()) if len(self.scores) > 1 else None

    @property
    def own(self) -> int | None:
        """Numbers trained beside the head."""
        return None if self.trained is None or self.head is None else self.trained - self.head

    @property
    def at_edge(self) -> bool:
        """Whether the rate taken is the least or the greatest of those tried: a better one may lie beyond."""
        rates = [trial.lr for trial in self.tried]
        return len(rates) > 1 and self.lr in (min(rates), max(rates))

    def above(self, chance: float) -> bool:
        """Whether every seed scored above chance."""
        return bool(self.scores) and min(self.scores.values()) > chance

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain data, mean and sd included."""
        return dataclasses.asdict(self) | {
            "scores": {str(seed): score for seed, score in sorted(self.scores.items())},
            "mean": self.mean,
            "sd": self.sd,
            "at_edge": self.at_edge,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> MethodRow:
        """Return the row of plain data."""
        fields = {f.name: content[f.name] for f in dataclasses.fields(cls) if f.name in content}
        fields["tried"] = tuple(Trial(**trial) for trial in fields["tried"])
        fields["scores"] = {int(seed): score for seed, score in fields["scores"].items()}
        fields["failed"] = tuple(fields["failed"])
        fields["curve"] = tuple((int(step), float(score)) for step, score in fields["curve"])
        fields["cost"] = None if fields["cost"] is None else Cost.from_json(fields["cost"])
        return cls(**fields)


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Return the mean of several curves over the same steps."""
    steps = [step for step, _ in curves[0]] if curves else []
    columns = zip(*([score for _, score in curve] for curve in curves), strict=True)
    return tuple((step, statistics.fmean(scores)) for step, scores in zip(steps, columns, strict=True))


def steps_to(curve: Curve, share: float = SHARE) -> float | None:
    """Return after how many steps a curve first reaches a share of its last score, straight between its points.

    None where the last score is not positive: a share of it says nothing then.
    """
    if not curve or curve[-1][1] <= 0:
        return None
    bar = share * curve[-1][1]
    before: tuple[int, float] | None = None
    for step, score in curve:
        if score >= bar:
            if before is None:
                return float(step)
            return before[0] + (step - before[0]) * (bar - before[1]) / (score - before[1])
        before = (step, score)
    return None


def remark(row: MethodRow, full: MethodRow | None, chance: float) -> str:
    """Return what stands beside a row: chance, full tuning, and whether the rate may not be the best.

    Where there is no chance, scores are no shares: they are not compared in points.
    """
    if row.why or row.mean is None:
        return row.why or f"every training failed: {row.failed[0]}"
    shares = math.isfinite(chance)
    said = [f"not above chance ({chance:.3f}) in every seed"] if shares and not row.above(chance) else []
    if shares and full is not None and full.mean is not None and row.method != full.method:
        gap = row.mean - full.mean
        said.append(
            f"within 3 points of full ({100 * gap:+.1f})" if abs(gap) <= CLOSE else f"{100 * gap:+.1f} points from full"
        )
    if row.at_edge:
        said.append("rate at the edge of those tried")
    if row.failed:
        said.append(f"{len(row.failed)} seeds failed")
    return "; ".join(said)
