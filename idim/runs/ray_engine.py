"""``Ray``: runs as tasks of Ray core, on this machine or on a cluster.

Workers of Ray answer the requests that worker processes answer (:mod:`idim.runs.messages`), so the numbers are the
same. A run is a task that Ray does not try again by itself: when a worker or a node is lost, the driver submits what
was on it anew and counts the attempt in the store, up to three times, as for worker processes. An exception inside a
training is a failed outcome and is not tried again. At most twice as many tasks are under way as the cluster takes at
once: no worker waits for the driver's disk, a cluster that can grow sees that there is more to do, and a sweep of a
million runs is never a million tasks.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from idim.runs.artifacts import Keep
from idim.runs.deaths import Deaths
from idim.runs.engine import Engine
from idim.runs.environment import versions
from idim.runs.messages import outcome_of, request_of
from idim.runs.ray_cluster import Cluster
from idim.runs.resources import Resources
from idim.runs.result import Outcome
from idim.runs.spec import RunSpec
from idim.runs.store import Store
from idim.runs.train import WEIGHTS
from idim.tasks.folder import VARIABLE

AHEAD = 2  # tasks under way for each that fits


class Ray(Engine):
    """Trains in workers of Ray, joined or started when there is first something to train.

    Args:
        store: where outcomes are looked up and kept; only this process writes it.
        data: the data folder, as for :func:`idim.tasks.load`; every node must see it.
        workers: runs at once of a cluster of this machine alone.
        address: ``HOST:PORT`` or ``auto`` of a cluster to join in its stead.
        resources: what runs reserve, by key; the usual is one core.
        keep: which tensors of the runs the workers write; every node must see the folder.
    """

    def __init__(
        self,
        store: Store,
        data: Path | None = None,
        *,
        workers: int = 2,
        address: str | None = None,
        resources: Mapping[str, Resources] | None = None,
        keep: Keep | None = None,
    ) -> None:
        super().__init__(store, None if data is None else data.absolute(), keep=keep)
        self._workers, self._address = workers, address
        self._resources, self._usual = resources or {}, Resources()
        self._cluster: Cluster | None = None
        self._flying: dict[Any, RunSpec] = {}

    def _compute(self, specs: Sequence[RunSpec]) -> Iterator[Outcome]:
        if not specs:
            return
        waiting, deaths = deque(specs), Deaths()
        cluster = self._joined(specs)
        self.store.start(self._fill(cluster, waiting))
        while self._flying:
            finished = []
            for ref in cluster.landed(self._flying):
                spec = self._flying.pop(ref)
                outcome = _outcome(spec, cluster.answer(ref), deaths)
                if outcome is None:
                    waiting.appendleft(spec)
                else:
                    finished.append(outcome)
            self.store.record(finished, self._fill(cluster, waiting))
            yield from finished

    def _joined(self, specs: Sequence[RunSpec]) -> Cluster:
        if self._cluster is None:
            self._cluster = Cluster(self._address, self._workers)
        self._cluster.check(self._needs(spec) for spec in specs)
        return self._cluster

    def _fill(self, cluster: Cluster, waiting: deque[RunSpec]) -> list[RunSpec]:
        """Submit waiting specs as far as there is room; return those submitted."""
        given: list[RunSpec] = []
        while waiting and len(self._flying) < AHEAD * max(1, cluster.room(self._needs(waiting[0]))):
            given.append(waiting.popleft())
            self._flying[cluster.submit(self._request(given[-1]), self._needs(given[-1]))] = given[-1]
        return given

    def _needs(self, spec: RunSpec) -> Resources:
        return self._resources.get(spec.key, self._usual)

    def _request(self, spec: RunSpec) -> dict[str, Any]:
        """Return the request, with what makes it mean the same on every node."""
        variables = {name: os.environ[name] for name in (VARIABLE, WEIGHTS) if name in os.environ}
        place = {"folder": os.getcwd(), "variables": variables, "versions": versions()}
        return request_of(spec, self.data, self.keep) | place

    def close(self) -> None:
        """Stop what is under way and leave the cluster; one that was started here ends."""
        if self._cluster is not None:
            self._cluster.close(list(self._flying))
        self._cluster = None
        self._flying.clear()


def _outcome(spec: RunSpec, answer: dict[str, Any] | str, deaths: Deaths) -> Outcome | None:
    """Return the outcome, or None for a lost run that is to be tried again."""
    return deaths.outcome(spec, answer) if isinstance(answer, str) else outcome_of(spec, answer)
