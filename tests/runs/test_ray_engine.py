"""The Ray engine over a cluster that is played: what is submitted, tried again, given up, kept."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from idim.errors import RequestError
from idim.runs import Outcome, Ray, Resources, RunSpec, Store, ray_engine, ray_node, run
from idim.runs.environment import host, versions
from idim.runs.ray_node import serve_on_node

SpecMaker = Callable[..., RunSpec]


class Played:
    """A cluster that answers the latest requests first; ``lost`` says how often the run of a seed is lost."""

    def __init__(self, *, room: int, lost: Mapping[int, int] | None = None) -> None:
        self.slots, self.lost = room, dict(lost or {})
        self.answers: dict[int, dict[str, Any] | str] = {}
        self.names = itertools.count()
        self.most = 0
        self.submitted: list[tuple[int, Resources]] = []
        self.closed: list[int] = []

    def room(self, resources: Resources) -> int:
        return self.slots

    def check(self, wanted: Iterable[Resources]) -> None:
        assert set(wanted)

    def submit(self, request: dict[str, Any], resources: Resources) -> int:
        name, seed = next(self.names), request["spec"]["seed"]
        self.submitted.append((seed, resources))
        if self.lost.get(seed, 0) > 0:
            self.lost[seed] -= 1
            self.answers[name] = "NodeDiedError"
        else:
            score = {"score": seed / 3, "selection_score": 0.0, "train_loss": 0.0, "seconds": 1.0}
            self.answers[name] = {"result": score | {"D": 1, "trained": 1, "steps": 1}, "host": "node-2"}
        return name

    def landed(self, flying: Iterable[int]) -> list[int]:
        names = list(flying)
        self.most = max(self.most, len(names))
        return names[-2:]

    def answer(self, ref: int) -> dict[str, Any] | str:
        return self.answers[ref]

    def close(self, flying: Sequence[int]) -> None:
        self.closed = list(flying)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as store:
        yield store


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[Played], Played]:
    def played(cluster: Played) -> Played:
        monkeypatch.setattr(ray_engine, "Cluster", lambda address, workers: cluster)
        return cluster

    return played


def test_what_is_lost_is_tried_again_and_nothing_else(
    store: Store, spec: SpecMaker, play: Callable[[Played], Played]
) -> None:
    cluster = play(Played(room=3, lost={4: 1, 11: 2}))
    with Ray(store) as engine:
        outcomes = engine.map([spec(seed=seed) for seed in range(40)])
    assert [o.result.score for o in outcomes.values() if o.result] == [seed / 3 for seed in range(40)]
    assert {r["spec"]["seed"]: r["attempt"] for r in store.rows() if r["attempt"] > 1} == {4: 2, 11: 3}
    assert len(cluster.submitted) == 43
    assert {row["host"] for row in store.rows()} == {"node-2"}, "a row says where it was computed"


def test_a_run_that_takes_three_nodes_with_it_fails_for_now(
    store: Store, spec: SpecMaker, play: Callable[[Played], Played]
) -> None:
    play(Played(room=1, lost={1: 3}))
    with Ray(store) as engine:
        outcomes = engine.map([spec(seed=seed) for seed in range(3)])
    assert [o.message for o in outcomes.values() if o.failed] == [
        "its worker process died 3 times, the last time of NodeDiedError"
    ]
    assert store.get(spec(seed=1)) is None, "it is tried afresh when it is next asked for"


def test_a_long_sweep_is_never_a_long_queue(store: Store, spec: SpecMaker, play: Callable[[Played], Played]) -> None:
    cluster = play(Played(room=4))
    Ray(store).map([spec(seed=seed) for seed in range(200)])
    assert cluster.most == 8
    empty = play(Played(room=0))
    assert len(Ray(store).map([spec(seed=seed) for seed in range(200, 203)])) == 3
    assert empty.most == 2, "nodes that are away may come back"


def test_what_is_stored_needs_no_cluster(store: Store, spec: SpecMaker, play: Callable[[Played], Played]) -> None:
    play(Played(room=1))
    first = Ray(store).map([spec()])
    cluster = play(Played(room=1))
    assert Ray(store).map([spec()]) == first
    assert not cluster.submitted


def test_an_interrupt_ends_what_is_under_way(store: Store, spec: SpecMaker, play: Callable[[Played], Played]) -> None:
    def stop(outcome: Outcome) -> None:
        raise KeyboardInterrupt

    cluster = play(Played(room=3))
    with pytest.raises(KeyboardInterrupt):
        Ray(store).map([spec(seed=seed) for seed in range(20)], stop)
    assert store.counts() == {"done": 2}
    assert len(cluster.closed) == 6


def test_what_a_node_refuses_stops_the_sweep(
    store: Store, spec: SpecMaker, play: Callable[[Played], Played], monkeypatch: pytest.MonkeyPatch
) -> None:
    play(Played(room=1))
    monkeypatch.setattr(Played, "answer", lambda self, ref: {"refused": "no data", "host": "node-2"})
    with Ray(store) as engine, pytest.raises(RequestError, match="no data"):
        engine.map([spec()])
    assert store.counts() == {}


def test_each_run_reserves_its_own(store: Store, spec: SpecMaker, play: Callable[[Played], Played]) -> None:
    cluster = play(Played(room=2))
    large = Resources(cpus=2, gpus=0.5)
    with Ray(store, resources={spec(seed=1).key: large}) as engine:
        engine.map([spec(seed=seed) for seed in range(3)])
    assert sorted(cluster.submitted, key=lambda pair: pair[0]) == [(0, Resources()), (1, large), (2, Resources())]


def test_a_node_serves_what_serial_gives_in_the_drivers_folder(
    store: Store, spec: SpecMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IDIM_DATA", str(tmp_path / "data"))
    request = Ray(store)._request(spec())
    assert (request["folder"], request["variables"]["IDIM_DATA"]) == (str(tmp_path), str(tmp_path / "data"))
    monkeypatch.setattr(ray_node, "threadpool_limits", lambda threads: None)  # it would outlast this test
    monkeypatch.chdir("/")
    monkeypatch.delenv("IDIM_DATA")
    answer = serve_on_node(request)
    assert Path.cwd() == tmp_path
    assert os.environ["IDIM_DATA"] == str(tmp_path / "data")
    assert answer["host"] == host()
    assert answer["result"]["score"] == run(spec()).score


def test_a_node_with_other_versions_refuses(store: Store, spec: SpecMaker) -> None:
    request = Ray(store)._request(spec())
    request["versions"] = versions() | {"torch": "0.1"}
    assert "every node must have the driver's torch 0.1; received" in serve_on_node(request)["refused"]
