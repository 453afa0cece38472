"""What changes a base without being a model itself: an adapter, a saved subspace."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from idim.spectral.pairing.delta import Delta
from idim.spectral.reading.sources import Skipped, Source

Load = Callable[[], Delta]


@dataclass(frozen=True, kw_only=True)
class Paired:
    """How to load each delta, by name, and what has none."""

    loads: Mapping[str, Load]
    skipped: tuple[Skipped, ...]


class Change(ABC):
    """A change of a base model.

    Attributes:
        place: what the user called it.
        needs_base: whether its deltas cannot be known without the base's tensors.
    """

    place: str
    needs_base: bool = True

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A hash that changes with the change."""

    @abstractmethod
    def pair(self, base: Source | None) -> Paired:
        """Find the tensors of the base that change; nothing large is read.

        Raises:
            RequestError: when the change is not one of this base.
        """
