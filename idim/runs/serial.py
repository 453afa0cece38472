"""``Serial``: one run after another, in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from idim.runs.engine import Engine, attempt
from idim.runs.result import Outcome
from idim.runs.spec import RunSpec


class Serial(Engine):
    """Trains in this process; the store is always exactly as far as the work is."""

    def _compute(self, specs: Sequence[RunSpec]) -> Iterator[Outcome]:
        for spec in specs:
            self.store.start([spec])
            outcome = attempt(spec, self.data, self.keep)
            self.store.finish([outcome])
            yield outcome
