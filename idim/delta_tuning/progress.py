"""Progress of a table of methods: one line on stderr in a terminal, a bar in a notebook, sparse lines in a log."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from idim.delta_tuning.bench import Progress
from idim.runs import Outcome

SECONDS_BETWEEN_LINES = 15.0  # in a log, which is not a terminal


@contextmanager
def shown(*, total: int, quiet: bool) -> Iterator[Progress]:
    """Yield a function that is told each finished run and shows it, unless ``quiet``.

    Args:
        total: trainings there are at most; those the store has are not told.
        quiet: show nothing.
    """
    from tqdm.auto import tqdm

    interval = 0.2 if sys.stderr.isatty() else SECONDS_BETWEEN_LINES
    with tqdm(total=total, unit=" trainings", disable=quiet, leave=False, mininterval=interval) as bar:

        def advance(stage: str, outcome: Outcome) -> None:
            bar.set_description(stage, refresh=False)
            bar.set_postfix_str(str(outcome), refresh=False)
            bar.update()

        yield advance
