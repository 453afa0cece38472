r"""A whole model, a kind of module, a depth: what many matrices say together.

The deltas :math:`\Delta_1, \dots, \Delta_k` of a group are the blocks of one block-diagonal matrix. Its singular
values are all of theirs, so rank, stable rank, effective rank, participation ratio and energy ranks of the group
are those of one matrix, exactly; the energy rank 90 % of a model, for one, is the number of rank-one terms,
wherever they lie, whose sum is within :math:`\sqrt{0.1}` of the whole change (Eckart & Young 1936). They are None
where a matrix was only decomposed in part. Beside them stand the median over matrices, and the mean weighted by
energy :math:`\|\Delta_i\|_F^2`.

The verdict of a group is the one that holds ``DECISIVE`` of its energy, and ``undetermined`` where none does.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from idim.spectral.judgement.matrix_report import MatrixReport
from idim.spectral.judgement.measures import effective_rank, energy_rank
from idim.spectral.judgement.verdict import Verdict
from idim.spectral.plain import to_plain
from idim.spectral.report.modules import KINDS, Module

VERDICTS: tuple[Verdict, ...] = ("low-rank", "full-rank", "unchanged", "undetermined")
DECISIVE = 0.95
COMPLETE = 1e-6  # of the energy that singular values may miss and still be all of them

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of a spectrum: of one block-diagonal matrix, or an average over matrices."""

    stable_rank: float
    participation_ratio: float
    effective_rank: float
    energy_rank_90: float
    energy_rank_95: float
    energy_rank_99: float


@dataclass(frozen=True, kw_only=True)
class Group:
    """Some matrices of a model, taken together.

    Attributes:
        matrices, parameters: how many.
        full: the largest rank the group could have, the sum of min(m, n).
        verdicts: matrices by verdict.
        verdict, why: of the group, in the sense of the module's docstring.
        norm, relative: ``‖Δ‖_F`` of the group, and over that of its base (None without base).
        noise_share: norm of the rounding noise expected, over ``norm``; None where unknown.
        rank: sum of the ranks; None where one of them is undetermined.
        spike_energy: share of the energy in spikes, above the edge of the bulk; None where unknown.
        joint: sizes of the block-diagonal matrix; None when nothing changed, or a spectrum is not complete.
        median, weighted: over the matrices that changed; None when none did, or one was only decomposed in part.
        effective_share: median effective rank over min(m, n).
    """

    matrices: int
    parameters: int
    full: int
    verdicts: Mapping[str, int]
    verdict: Verdict
    why: str
    norm: float
    relative: float | None
    noise_share: float | None
    rank: int | None
    spike_energy: float | None
    joint: Sizes | None
    median: Sizes | None
    weighted: Sizes | None
    effective_share: float | None


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The whole model, each kind of module, each depth (key None: outside blocks)."""

    whole: Group
    kinds: Mapping[str, Group]
    depths: Mapping[int | None, Group]

    def to_json(self) -> dict[str, Any]:
        """Return the groups as plain data."""
        return {
            "whole": to_plain(self.whole),
            "kinds": {kind: to_plain(group) for kind, group in self.kinds.items()},
            "depths": [{"depth": depth, **to_plain(group)} for depth, group in self.depths.items()],
        }


def summarize(reports: Sequence[MatrixReport], modules: Mapping[str, Module]) -> Summary:
    """Return what the matrices say together, by kind in the order of ``KINDS`` and by depth."""
    kinds = {kind: [r for r in reports if modules[r.name].kind == kind] for kind in KINDS}
    found = {modules[report.name].depth for report in reports}
    depths = sorted(found, key=lambda depth: -1 if depth is None else depth)
    return Summary(
        whole=group_of(reports),
        kinds={kind: group_of(members) for kind, members in kinds.items() if members},
        depths={depth: group_of([r for r in reports if modules[r.name].depth == depth]) for depth in depths},
    )


def group_of(reports: Sequence[MatrixReport]) -> Group:
    """Return what some matrices say together."""
    energy = math.fsum(r.norm**2 for r in reports)
    moved = [r for r in reports if r.norm > 0]
    sized = [r for r in moved if r.verdict != "unchanged"]
    verdict, why = _verdict(reports, energy)
    return Group(
        matrices=len(reports),
        parameters=sum(math.prod(r.matrix) for r in reports),
        full=sum(min(r.matrix) for r in reports),
        verdicts={v: n for v in VERDICTS if (n := sum(r.verdict == v for r in reports))},
        verdict=verdict,
        why=why,
        norm=math.sqrt(energy),
        relative=_relative(reports, energy),
        noise_share=_mean(moved, [r.noise.share for r in moved], power=2),
        rank=None if any(r.rank is None for r in reports) else sum(r.rank or 0 for r in reports),
        spike_energy=_mean(sized, [_spike_energy(r) for r in sized]),
        joint=_joint(sized),
        median=_average(sized, statistics.median),
        weighted=_average(sized, lambda column: _mean(sized, column) or 0.0),
        effective_share=_median([effective_share(r) for r in sized]),
    )


def sizes_of(values: Values) -> Sizes:
    """Return the sizes of a spectrum of descending singular values, the first above zero.

    >>> sizes_of(np.full(4, 3.0)).effective_rank
    4.0
    """
    share = (values / values[0]) ** 2
    share /= share.sum()
    return Sizes(
        stable_rank=float(1 / share[0]),
        participation_ratio=float(1 / (share @ share)),
        effective_rank=round(effective_rank(share), 9),
        energy_rank_90=float(energy_rank(share, 0.90) or len(share)),
        energy_rank_95=float(energy_rank(share, 0.95) or len(share)),
        energy_rank_99=float(energy_rank(share, 0.99) or len(share)),
    )


def effective_share(report: MatrixReport) -> float | None:
    """Return the effective rank of a matrix over min(m, n): 1 for a flat spectrum; None where it is not known."""
    known = report.measures.effective_rank
    return None if known is None else known / min(report.matrix)


def _joint(sized: Sequence[MatrixReport]) -> Sizes | None:
    spectra = [np.asarray(r.singular_values) for r in sized]
    missed = [1 - float(s @ s) / r.norm**2 for s, r in zip(spectra, sized, strict=True)]
    if not sized or max(missed) > COMPLETE:
        return None
    return sizes_of(np.sort(np.concatenate(spectra))[::-1])


def _verdict(reports: Sequence[MatrixReport], energy: float) -> tuple[Verdict, str]:
    if not energy:
        return "unchanged", f"no weight of {len(reports)} matrices changed"
    shares = {v: math.fsum(r.norm**2 for r in reports if r.verdict == v) / energy for v in VERDICTS}
    leader = max(VERDICTS, key=shares.__getitem__)
    parts = ", ".join(f"{share:.0%} {verdict}" for verdict, share in shares.items() if share >= 0.005)
    if shares[leader] >= DECISIVE:
        return leader, f"of the energy of the change, {parts}"
    return "undetermined", f"no verdict holds {DECISIVE:.0%} of the energy of the change: {parts}"


def _relative(reports: Sequence[MatrixReport], energy: float) -> float | None:
    base = [r.base_norm for r in reports]
    if not base or any(norm is None for norm in base):
        return None
    total = math.fsum(norm**2 for norm in base if norm is not None)
    return math.sqrt(energy / total) if total else None


def _spike_energy(report: MatrixReport) -> float | None:
    spikes = report.measures.spikes
    if spikes is None or spikes > len(report.singular_values):
        return None
    return math.fsum(value**2 for value in report.singular_values[:spikes]) / report.norm**2


def _mean(reports: Sequence[MatrixReport], column: Sequence[float | None], *, power: int = 1) -> float | None:
    """Return the power mean of a column, one value a report, weighted by energy; None when a value is missing."""
    known = [value for value in column if value is not None]
    if not reports or len(known) < len(reports):
        return None
    weights = [r.norm**2 for r in reports]
    total = math.fsum(w * value**power for w, value in zip(weights, known, strict=True))
    return float((total / math.fsum(weights)) ** (1 / power))


def _median(column: Sequence[float | None]) -> float | None:
    known = [value for value in column if value is not None]
    return float(statistics.median(known)) if known and len(known) == len(column) else None


def _average(sized: Sequence[MatrixReport], mean: Callable[[list[float]], float]) -> Sizes | None:
    columns = {f.name: [getattr(r.measures, f.name) for r in sized] for f in dataclasses.fields(Sizes)}
    if not sized or any(value is None for column in columns.values() for value in column):
        return None
    return Sizes(**{name: float(mean(column)) for name, column in columns.items()})
