"""``Processes``: long-lived worker processes of one thread each.

Workers are plain child processes that run a module (:mod:`idim.runs.worker`), not forks or spawns of
the caller's script, so this works from notebooks and from scripts without a main guard. A worker that
dies costs the run it held, which is tried again on a new one; a run that takes three workers with it
is a failed outcome, and is tried afresh when it is asked for later.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import wait
from pathlib import Path

from idim.errors import RequestError
from idim.runs.artifacts import Keep
from idim.runs.child import Child
from idim.runs.deaths import Deaths
from idim.runs.engine import Engine
from idim.runs.result import Outcome
from idim.runs.spec import RunSpec
from idim.runs.store import Store


class Processes(Engine):
    """Trains in ``workers`` child processes, started when they are first needed and kept until close.

    Args:
        store: where outcomes are looked up and kept; only this process writes it.
        data: the data folder, as for :func:`idim.tasks.load`.
        workers: number of processes, at least 1.
        keep: which tensors of the runs the workers write.

    Raises:
        RequestError: for less than one worker.
    """

    def __init__(self, store: Store, data: Path | None = None, workers: int = 2, *, keep: Keep | None = None) -> None:
        super().__init__(store, data, keep=keep)
        if workers < 1:
            raise RequestError(f"workers must be at least 1; received {workers}")
        self.workers = workers
        self._idle: list[Child] = []
        self._busy: dict[Child, RunSpec] = {}

    def _compute(self, specs: Sequence[RunSpec]) -> Iterator[Outcome]:
        waiting, deaths = deque(specs), Deaths()
        self.store.start(self._fill(waiting))
        while self._busy:
            for child in self._answering():
                spec = self._busy.pop(child)
                outcome = child.take(spec)
                if outcome is not None:
                    self._idle.append(child)
                elif (outcome := deaths.outcome(spec, child.stop())) is None:
                    waiting.appendleft(spec)
                finished = [] if outcome is None else [outcome]
                self.store.record(finished, self._fill(waiting))  # filled first: no worker waits for the disk
                yield from finished

    def _fill(self, waiting: deque[RunSpec]) -> list[RunSpec]:
        """Give waiting specs to free workers; return those given."""
        given = []
        while waiting and len(self._busy) < self.workers:
            child = self._idle.pop() if self._idle else Child()
            spec = waiting.popleft()
            self._busy[child] = spec
            child.give(spec, self.data, self.keep)
            given.append(spec)
        return given

    def _answering(self) -> list[Child]:
        """Wait; return the busy workers that answered or died."""
        ready = wait([child.answers.fileno() for child in self._busy])
        return [child for child in self._busy if child.answers.fileno() in ready]

    def close(self) -> None:
        """Stop the workers, also in the middle of a training."""
        for child in [*self._idle, *self._busy]:
            child.stop()
        self._idle.clear()
        self._busy.clear()
