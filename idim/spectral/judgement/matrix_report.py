"""What is known of one tensor of a pair, in plain numbers that go to JSON and back unchanged."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from idim.spectral.judgement.measures import Measures
from idim.spectral.judgement.verdict import Verdict
from idim.spectral.noise.null import Null
from idim.spectral.noise.pair_noise import Noise


@dataclass(frozen=True, kw_only=True)
class VectorReport:
    """The change of a vector or scalar, which has no rank.

    Args:
        name: as in the base.
        shape: as stored.
        dtype: of the tuned tensor.
        norm: of the change.
        relative: norm over the base's; None without a base, or where that is zero.
        base_norm: None without a base.
        unchanged: fraction of entries that are the base's.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    norm: float
    relative: float | None
    base_norm: float | None
    unchanged: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> VectorReport:
        """Return the report that ``to_json`` gave."""
        return cls(**{**content, "shape": tuple(content["shape"])})


@dataclass(frozen=True, kw_only=True)
class MatrixReport:
    """The change of a matrix and the verdict on its rank.

    Args:
        name: as in the base.
        shape: as stored.
        matrix: (m, n) it is analysed as.
        reshaped: "" or how the stored shape became that matrix.
        note: "" or what the reader should know of the pair.
        dtype: of the tuned tensor.
        norm: ‖Δ‖_F.
        relative: ‖Δ‖_F / ‖base‖_F; None without a base, or where that is zero.
        base_norm: ‖base‖_F; None without a base.
        verdict: ``low-rank``, ``full-rank``, ``unchanged`` or ``undetermined``.
        rank: number of directions above noise and null; None when undetermined.
        at_least: directions that are certain.
        why: the verdict in words, with its numbers.
        measures: sizes of the spectrum.
        noise: rounding of the stored formats.
        null: what a change without structure would look like.
        support: how many rows and columns (m, n) have changed anywhere.
        singular_values: descending; all of them, or the leading ones.
        method: how they were found.
        error_bound: of each singular value.
    """

    name: str
    shape: tuple[int, ...]
    matrix: tuple[int, int]
    reshaped: str
    note: str
    dtype: str
    norm: float
    relative: float | None
    base_norm: float | None
    verdict: Verdict
    rank: int | None
    at_least: int
    why: str
    measures: Measures
    noise: Noise
    null: Null
    support: tuple[int, int]
    singular_values: tuple[float, ...]
    method: str
    error_bound: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values: numbers, strings, lists, dicts and None."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> MatrixReport:
        """Return the report that ``to_json`` gave, also after a round trip through JSON."""
        tuples = {name: tuple(content[name]) for name in ("shape", "matrix", "support", "singular_values")}
        return cls(
            **{
                **content,
                **tuples,
                "measures": Measures(**content["measures"]),
                "noise": Noise(**content["noise"]),
                "null": Null(**content["null"]),
            }
        )
