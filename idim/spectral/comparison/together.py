r"""What the comparisons of all tensors say together.

- *cosine*: of the two changes as vectors over every tensor, biases and norms included;
- *overlap*: the mean of φ(k, k) over matrices, beside its mean over random spaces, with the 95 % band of
  that mean (matrices independent, normal approximation), and over random spaces in the same coordinates;
- *shared*: directions in common beyond chance, of those compared;
- *intruders*: foreign directions of each tuned model, of those looked at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from idim.errors import RequestError
from idim.spectral.comparison.chance import Chance, overlap_variance
from idim.spectral.comparison.records import Alignment, BaseComparison, PairComparison
from idim.spectral.comparison.similarity_map import similarity_map
from idim.spectral.pairing.pairs import Skipped
from idim.spectral.plain import from_plain, to_plain

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

NORMAL_95 = 1.959964


@dataclass(frozen=True, kw_only=True)
class SideSummary:
    """The left, or the right, spaces of all matrices.

    Attributes:
        overlap, chance: mean φ of the whole spaces, and that of random ones.
        coordinates: mean φ of random ones in the same coordinates.
        shared, compared: directions in common beyond chance, of how many.
        geodesic, chance_geodesic: medians over matrices, radians.
    """

    overlap: float
    chance: Chance
    coordinates: float
    shared: int
    compared: int
    geodesic: float
    chance_geodesic: float


@dataclass(frozen=True, kw_only=True)
class BaseSummary:
    """One tuned model beside its base.

    Attributes:
        matrices: number of matrices.
        looked_at: leading tuned directions searched for intruders.
        intruders_left, intruders_right: how many were.
        amplification: median factor over matrices, each with all the directions compared; None without any.
    """

    matrices: int
    looked_at: int
    intruders_left: int
    intruders_right: int
    amplification: float | None


@dataclass(frozen=True, kw_only=True)
class ComparisonSummary:
    """The whole models (see the module); a part is None where no tensor has it."""

    tensors: int
    matrices: int
    cosine: float | None
    left: SideSummary | None
    right: SideSummary | None
    base_a: BaseSummary | None
    base_b: BaseSummary | None


@dataclass(frozen=True, kw_only=True)
class ModelComparison:
    """Two tuned models of one base, every tensor and the whole.

    >>> import torch
    >>> from idim.spectral.pairing.pairs import open_pairs
    >>> from idim.spectral.comparison.versus import compare_models
    >>> base = {"layer.weight": torch.diag(torch.arange(1.0, 41.0))}
    >>> one, other = torch.zeros(40, 40), torch.zeros(40, 40)
    >>> one[0, 0], one[1, 1], other[0, 0], other[2, 1] = 2.0, 1.0, 2.0, 1.0
    >>> tuned, against = ({"layer.weight": base["layer.weight"] + change} for change in (one, other))
    >>> print(compare_models(open_pairs(base, tuned), open_pairs(base, against), k=2, top=2))
    compared: 1 matrices, 2 leading directions each
    cosine of the two changes: 0.800
    left  overlap 0.500 (random 0.050, same rows 0.500), shared 1 of 2
    right overlap 1.000 (random 0.050, same columns 1.000), shared 2 of 2
    tuned   beside the base: intruders 0 left, 0 right of 2, amplification 1
    against beside the base: intruders 0 left, 0 right of 2, amplification 2.24

    Attributes:
        k: number of leading directions asked for.
        tensors: one comparison a tensor, vectors included.
        skipped: what was left out, and why.
        summary: the whole.
    """

    k: int
    tensors: tuple[PairComparison, ...]
    skipped: tuple[Skipped, ...]
    summary: ComparisonSummary

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return to_plain(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ModelComparison:
        """Return the comparison that ``data`` was made from."""
        return from_plain(cls, data)

    def to_frame(self) -> pd.DataFrame:
        """Return one row a tensor: ranks, cosine, overlaps beside chance, distances, intruders, amplification."""
        import pandas as pd

        return pd.DataFrame([_row(record) for record in self.tensors])

    def plot(self, ax: Axes, *, side: Literal["left", "right"] = "right") -> Axes:
        """Draw the mean φ(i, j) over the matrices with all k directions, beside that of random spaces.

        Raises:
            RequestError: when no matrix has them.
        """
        full = [a for a in self._alignments(side) if len(a.similarity) == len(a.similarity[0]) == self.k]
        if not full:
            raise RequestError(f"a map of φ needs a matrix with k = {self.k} directions in both; received none")
        table = np.mean([a.similarity for a in full], axis=0)
        similarity_map(ax, table, chance=fmean(a.chance.mean for a in full))
        ax.set_title(f"{side} directions, mean of {len(full)}")
        return ax

    def _alignments(self, side: Literal["left", "right"]) -> list[Alignment]:
        both = [c.between.left if side == "left" else c.between.right for c in self.tensors]
        return [alignment for alignment in both if alignment is not None]

    def __str__(self) -> str:
        summary, lines = self.summary, [f"compared: {self.summary.matrices} matrices, {self.k} leading directions each"]
        if summary.cosine is not None:
            lines.append(f"cosine of the two changes: {summary.cosine:.3f}")
        lines += [_side_line("left ", "rows", summary.left), _side_line("right", "columns", summary.right)]
        if noted := sum(bool(c.between.note) for c in self.tensors):
            lines.append(f"rounding decides in {noted} tensors: unrelated changes may have a cosine of 0.3")
        lines += [_base_line("tuned  ", summary.base_a), _base_line("against", summary.base_b)]
        return "\n".join(line for line in lines if line)


def summarize_comparisons(records: Sequence[PairComparison]) -> ComparisonSummary:
    """Return what the tensors say together."""
    between = [record.between for record in records]
    inner = math.fsum(c.inner for c in between)
    norms = math.sqrt(math.fsum(c.norm_a**2 for c in between) * math.fsum(c.norm_b**2 for c in between))
    return ComparisonSummary(
        tensors=len(between),
        matrices=sum(c.left is not None for c in between),
        cosine=max(-1.0, min(1.0, inner / norms)) if norms else None,
        left=_side([c.left for c in between if c.left]),
        right=_side([c.right for c in between if c.right]),
        base_a=_base([record.base_a for record in records if record.base_a]),
        base_b=_base([record.base_b for record in records if record.base_b]),
    )


def _side(alignments: Sequence[Alignment]) -> SideSummary | None:
    if not alignments:
        return None
    chance = fmean(a.chance.mean for a in alignments)
    reach = NORMAL_95 * math.sqrt(math.fsum(_variance(a) for a in alignments)) / len(alignments)
    return SideSummary(
        overlap=fmean(a.overlap for a in alignments),
        chance=Chance(mean=chance, low=max(0.0, chance - reach), high=min(1.0, chance + reach)),
        coordinates=fmean(a.coordinates for a in alignments),
        shared=sum(a.shared for a in alignments),
        compared=sum(len(a.angles) for a in alignments),
        geodesic=median(a.geodesic for a in alignments),
        chance_geodesic=median(a.chance_angles.geodesic.mean for a in alignments),
    )


def _variance(alignment: Alignment) -> float:
    i, j = len(alignment.similarity), len(alignment.similarity[0])
    return overlap_variance(alignment.dimension, i, j) / min(i, j) ** 2


def _base(comparisons: Sequence[BaseComparison]) -> BaseSummary | None:
    if not comparisons:
        return None
    factors = [factor for c in comparisons if (factor := amplification_factor(c)) is not None]
    return BaseSummary(
        matrices=len(comparisons),
        looked_at=sum(c.intruders.top for c in comparisons),
        intruders_left=sum(c.intruders.left.count for c in comparisons),
        intruders_right=sum(c.intruders.right.count for c in comparisons),
        amplification=median(factors) if factors else None,
    )


def amplification_factor(comparison: BaseComparison) -> float | None:
    """Return the amplification factor with all the directions compared; None for an update without any."""
    return comparison.amplification.factor(comparison.rank) if comparison.amplification else None


def _row(record: PairComparison) -> dict[str, Any]:
    between = record.between
    row: dict[str, Any] = {"name": between.name, "rank_a": between.rank_a, "rank_b": between.rank_b}
    row |= {"norm_a": between.norm_a, "norm_b": between.norm_b, "cosine": between.cosine, "why": between.why}
    row["note"] = between.note
    for side, found in (("left", between.left), ("right", between.right)):
        row[f"overlap_{side}"] = found.overlap if found else None
        row[f"chance_{side}"] = found.chance.mean if found else None
        row[f"chance_high_{side}"] = found.chance.high if found else None
        row[f"coordinates_{side}"] = found.coordinates if found else None
        row[f"shared_{side}"] = found.shared if found else None
        row[f"geodesic_{side}"] = found.geodesic if found else None
        row[f"chordal_{side}"] = found.chordal if found else None
    for which, beside in (("a", record.base_a), ("b", record.base_b)):
        row[f"intruders_left_{which}"] = beside.intruders.left.count if beside else None
        row[f"intruders_right_{which}"] = beside.intruders.right.count if beside else None
        row[f"amplification_{which}"] = amplification_factor(beside) if beside else None
    return row


def _side_line(word: str, lines: str, side: SideSummary | None) -> str:
    if side is None:
        return ""
    zero = f"random {side.chance.mean:.3f}, same {lines} {side.coordinates:.3f}"
    return f"{word} overlap {side.overlap:.3f} ({zero}), shared {side.shared} of {side.compared}"


def _base_line(word: str, base: BaseSummary | None) -> str:
    if base is None:
        return ""
    foreign = f"intruders {base.intruders_left} left, {base.intruders_right} right of {base.looked_at}"
    factor = "" if base.amplification is None else f", amplification {base.amplification:.3g}"
    return f"{word} beside the base: {foreign}{factor}"
