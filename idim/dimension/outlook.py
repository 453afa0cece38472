"""What a measure still has before it at each stage, for the remaining time (:mod:`idim.dimension.progress`)."""

from __future__ import annotations

from dataclasses import dataclass

from idim.dimension.progress import Later
from idim.dimension.request import MeasureRequest


@dataclass(frozen=True)
class Outlook:
    """Trainings to expect.

    Args:
        request: what was asked.
        tunes: whether the rate in subspaces is tuned.
        tuning: trainings that tuning a rate takes at least.
    """

    request: MeasureRequest
    tunes: bool
    tuning: int

    @property
    def search(self) -> int:
        """Most trainings of the search."""
        dims = self.request.dimensions
        return self.request.budget if dims is None else len(dims) * self.request.seeds

    @property
    def _sure(self) -> str:
        if self.tunes:
            return "about "
        return "at most " if self.request.dimensions is None else ""

    @property
    def while_tuning_reference(self) -> Later:
        """Left after the rates of full training that are being tried."""
        return Later(full=self.request.reference_seeds, subspace=self.after_reference.subspace, sure="about ")

    @property
    def after_reference(self) -> Later:
        """Left after full training."""
        return Later(subspace=self.search + self.tuning * self.tunes, sure=self._sure)

    @property
    def while_tuning(self) -> Later:
        """Left after the rates in a subspace that are being tried."""
        return Later(subspace=self.search, sure="about ")

    def in_search(self, asked: int, spent: int) -> Later:
        """Left after ``asked`` trainings of the search, ``spent`` ones being done."""
        if self.request.dimensions is not None:
            return Later()
        return Later(subspace=max(0, self.request.budget - spent - asked), sure="at most ")
