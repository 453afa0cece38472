"""What a comparison found: plain frozen records, without a tensor, that go to JSON and back exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from idim.errors import RequestError
from idim.spectral.comparison.amplification import Amplification
from idim.spectral.comparison.chance import Chance, ChanceAngles
from idim.spectral.comparison.intruders import Intruders
from idim.spectral.plain import from_plain, to_plain

Table = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """How the leading left, or right, spaces of two matrices lie to each other in R^n.

    Attributes:
        dimension: n.
        angles: principal angles between the leading i- and j-dimensional spaces, radians, ascending.
        geodesic, chordal: Grassmann distances made of them.
        similarity: φ of the LoRA paper, entry [i - 1][j - 1] for the first i and the first j directions.
        overlap: its last entry: the whole spaces.
        chance: ``overlap`` of random spaces of the same dimensions.
        coordinates: ``overlap`` of spaces in the same coordinates with random signs: what sharing rows alone gives.
        chance_angles: distances and largest cosine of random spaces.
        shared: number of principal cosines above what the largest one of random spaces stays below in
            97.5 % of draws: directions in common beyond chance.
    """

    dimension: int
    angles: tuple[float, ...]
    geodesic: float
    chordal: float
    similarity: Table
    overlap: float
    chance: Chance
    coordinates: float
    chance_angles: ChanceAngles
    shared: int

    def phi(self, i: int, j: int) -> float:
        """Return φ(i, j).

        Raises:
            RequestError: when one of the matrices has fewer directions here.
        """
        rows, columns = len(self.similarity), len(self.similarity[0])
        if not (1 <= i <= rows and 1 <= j <= columns):
            raise RequestError(f"φ(i, j) has i from 1 to {rows} and j from 1 to {columns}; received ({i}, {j})")
        return self.similarity[i - 1][j - 1]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two updates of one tensor.

    Attributes:
        name: of the tensor.
        shape: (m, n) as analysed; of a vector as stored.
        k: number of leading directions asked for.
        rank_a, rank_b: directions each has, at most k; none for a vector.
        norm_a, norm_b: Frobenius norms of the updates.
        inner: their inner product ⟨ΔA, ΔB⟩.
        left, right: the spaces of their left and right directions; None when one update has no direction.
        why: "" or what cannot be compared: a vector, an update that is zero.
        note: "" or what rounding alone may have made of the cosine.
    """

    name: str
    shape: tuple[int, ...]
    k: int
    rank_a: int
    rank_b: int
    norm_a: float
    norm_b: float
    inner: float
    left: Alignment | None
    right: Alignment | None
    why: str
    note: str

    @property
    def cosine(self) -> float | None:
        """The cosine between the updates as vectors; None when one is zero."""
        norms = self.norm_a * self.norm_b
        return max(-1.0, min(1.0, self.inner / norms)) if norms else None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return to_plain(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Comparison:
        """Return the comparison that ``data`` was made from."""
        return from_plain(cls, data)


@dataclass(frozen=True, kw_only=True)
class BaseComparison:
    """An update beside the weights it changes.

    Attributes:
        name, shape, k: as in :class:`Comparison`.
        rank: directions the update has, at most k.
        left, right: the update's leading spaces beside those of the base weights; None when either has none.
        amplification: how the base acts on the update's directions; None for an update without any.
        intruders: directions of the tuned weights foreign to the base.
        why: "" or what cannot be compared: an update or a base that is zero.
    """

    name: str
    shape: tuple[int, int]
    k: int
    rank: int
    left: Alignment | None
    right: Alignment | None
    amplification: Amplification | None
    intruders: Intruders
    why: str

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return to_plain(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> BaseComparison:
        """Return the comparison that ``data`` was made from."""
        return from_plain(cls, data)


@dataclass(frozen=True, kw_only=True)
class PairComparison:
    """One tensor of two tuned models.

    Attributes:
        between: the two updates beside each other.
        base_a, base_b: each beside the base weights; None when these were not given or not asked for, and for vectors.
    """

    between: Comparison
    base_a: BaseComparison | None
    base_b: BaseComparison | None

    @property
    def name(self) -> str:
        """Name of the tensor."""
        return self.between.name

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return to_plain(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PairComparison:
        """Return the comparison that ``data`` was made from."""
        return from_plain(cls, data)
