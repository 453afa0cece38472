from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from idim import tasks
from idim.errors import RequestError
from idim.runs import Engine, Outcome, Processes, RunResult, RunSpec, Serial, Store, engine, run, serial, worker

SpecMaker = Callable[..., RunSpec]
Sweep = list[RunSpec]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as store:
        yield store


@pytest.fixture
def sweep(spec: SpecMaker) -> Sweep:
    """Return full and subspace runs of three tasks, one of which fails, and one repeat."""
    runs = [spec(seed=seed) for seed in range(3)]
    runs += [spec("digits", d=20, lr=0.05, steps=20, seed=seed) for seed in range(2)]
    runs += [spec("digits", model="mlp:9", lr=2e-3, steps=20), spec("regression:2", lr=1.0)]
    return [*runs, spec(lr=1e300, optimizer="sgd"), runs[0]]


def results(engine: Engine, sweep: Sweep) -> dict[str, Outcome]:
    with engine:
        return engine.map(sweep)


def test_serial_gives_what_run_gives_and_goes_on_after_a_failure(store: Store, sweep: Sweep) -> None:
    outcomes = results(Serial(store), sweep)
    assert list(outcomes) == list(dict.fromkeys(one.key for one in sweep))
    failed = [outcome for outcome in outcomes.values() if outcome.failed]
    assert [outcome.spec.lr for outcome in failed] == [1e300]
    assert "TrainingFailed: " in failed[0].message
    assert "lr 1e+300" in failed[0].message
    for key, outcome in outcomes.items():
        assert outcome.spec.key == key
        assert outcome == store.get(outcome.spec)
        if not outcome.failed:
            assert run(outcome.spec) == outcome.result


@pytest.mark.parametrize("workers", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 3))])
def test_processes_give_the_bits_of_serial(tmp_path: Path, sweep: Sweep, workers: int) -> None:
    with Store(tmp_path / "serial") as one, Store(tmp_path / "processes") as other:
        expected = results(Serial(one), sweep)
        assert results(Processes(other, workers=workers), sweep) == expected
        assert list(other.outcomes()) == list(one.outcomes())
        assert {row["attempt"] for row in other.rows()} == {1}


def test_what_is_stored_is_not_trained_again(store: Store, spec: SpecMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = [spec(seed=0), spec(lr=1e300, optimizer="sgd")], spec(seed=5)
    told: list[Outcome] = []
    first = Serial(store).map(old, told.append)
    assert told == list(first.values())
    trained: list[RunSpec] = []
    attempt = engine.attempt
    monkeypatch.setattr(serial, "attempt", lambda one, *rest: trained.append(one) or attempt(one, *rest))
    second = Serial(store).map([*old, new], told.append)
    assert trained == [new], "neither done nor failed runs are tried again"
    assert told[2:] == [second[new.key]]
    assert {key: second[key] for key in first} == first


def test_any_exception_of_a_training_is_a_row(store: Store, spec: SpecMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **options: object) -> None:
        raise ValueError("of two\nlines")

    monkeypatch.setattr(engine, "train", broken)
    assert Serial(store).map([spec()])[spec().key].message == "ValueError: of two lines"


def test_an_interrupt_keeps_what_is_finished(store: Store, spec: SpecMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = engine.attempt

    def interrupted(one: RunSpec, *rest: object) -> Outcome:
        if one.seed == 2:
            raise KeyboardInterrupt
        return attempt(one, *rest)

    sweep = [spec(seed=seed) for seed in range(4)]
    monkeypatch.setattr(serial, "attempt", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Serial(store).map(sweep)
    assert store.counts() == {"done": 2}
    monkeypatch.setattr(serial, "attempt", attempt)
    assert len(Serial(store).map(sweep)) == 4


@pytest.mark.usefixtures("puppets")
def test_an_interrupt_stops_the_workers_and_keeps_what_is_finished(store: Store, spec: SpecMaker) -> None:
    def stop(outcome: Outcome) -> None:
        raise KeyboardInterrupt

    processes = Processes(store, workers=2)
    with pytest.raises(KeyboardInterrupt):
        processes.map([spec(seed=seed, steps=10**6 if seed else 1) for seed in range(3)], stop)
    assert store.counts() == {"done": 1}
    assert not processes._busy
    assert not processes._idle


def test_missing_data_stop_the_sweep_and_are_no_result(tmp_path: Path, store: Store, spec: SpecMaker) -> None:
    sweep = [spec(), dataclasses.replace(spec(), task="mnist"), spec(seed=1)]
    with pytest.raises(RequestError, match=r"--data DIR or IDIM_DATA"):
        Serial(store, tmp_path).map(sweep)
    assert store.counts() == {"done": 1}


@pytest.mark.usefixtures("puppets")
def test_what_a_worker_refuses_stops_the_sweep_and_is_no_result(store: Store, spec: SpecMaker) -> None:
    sweep = [spec(), dataclasses.replace(spec(), task="mnist"), spec(seed=1)]
    with Processes(store, workers=1) as processes, pytest.raises(RequestError, match="no data"):
        processes.map(sweep)
    assert store.counts() == {"done": 1}


def test_a_worker_refuses_what_serial_refuses(tmp_path: Path, spec: SpecMaker) -> None:
    def answer(one: RunSpec) -> dict[str, object]:
        return worker.serve({"spec": one.to_json(), "data": str(tmp_path)})

    assert "--data DIR or IDIM_DATA" in str(answer(dataclasses.replace(spec(), task="mnist"))["refused"])
    assert "lr 1e+300" in str(answer(spec(lr=1e300, optimizer="sgd"))["failed"])
    assert RunResult.from_json(answer(spec())["result"]) == run(spec())  # type: ignore[arg-type]


def test_less_than_one_worker_is_refused(store: Store) -> None:
    with pytest.raises(RequestError, match="workers must be at least 1; received 0"):
        Processes(store, workers=0)


@pytest.mark.usefixtures("puppets")
def test_an_idle_worker_that_dies_is_replaced(store: Store, spec: SpecMaker) -> None:
    with Processes(store, workers=1) as processes:
        processes.map([spec(seed=0)])
        (child,) = processes._idle
        child._process.kill()
        child._process.wait()
        assert not processes.map([spec(seed=1)])[spec(seed=1).key].failed


@pytest.mark.usefixtures("puppets")
def test_a_run_that_takes_its_workers_with_it_fails_and_is_tried_again(store: Store, spec: SpecMaker) -> None:
    with Processes(store, workers=2) as processes:
        outcomes = processes.map([spec(lr=0.125), *(spec(seed=seed) for seed in range(9))])
    assert [outcome.message for outcome in outcomes.values() if outcome.failed] == [
        "its worker process died 3 times, the last time of SIGKILL"
    ]
    assert {(row["spec"]["lr"], row["status"]) for row in store.rows()} == {(0.02, "done"), (0.125, "failed")}
    assert store.get(spec(lr=0.125)) is None
    assert spec(lr=0.125).key not in store.finished_keys()
    with Processes(store, workers=1) as processes:
        assert processes.map([spec(lr=0.125)])[spec(lr=0.125).key].failed
    assert {row["spec"]["lr"]: row["attempt"] for row in store.rows()} == {0.02: 1, 0.125: 6}, "three workers each time"


@pytest.mark.usefixtures("puppets")
def test_no_more_workers_are_started_than_there_are_runs(store: Store, spec: SpecMaker) -> None:
    with Processes(store, workers=50) as processes:
        processes.map([spec(seed=seed) for seed in range(2)])
        assert len(processes._idle) <= 2
        processes.map([spec(seed=seed) for seed in range(2)])
        assert len(processes._idle) <= 2


def test_a_worker_that_cannot_start_is_said(store: Store, spec: SpecMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with Processes(store) as processes, pytest.raises(RequestError, match="ended by itself with status 1"):
        processes.map([spec()])
    assert store.counts() == {}


def test_works_from_a_script_without_a_main_guard(tmp_path: Path, spec: SpecMaker) -> None:
    """The script prints while it trains, is given by its text alone, and its folder is not the project's."""
    script = (
        "import sys, json\n"
        "from idim.runs import Processes, RunSpec, Store\n"
        "spec = RunSpec.from_json(json.loads(sys.argv[1]))\n"
        "with Store('store') as store, Processes(store, workers=1) as engine:\n"
        "    print(engine.map([spec])[spec.key].result.score)\n"
    )
    path = os.pathsep.join(str(Path(folder).resolve()) for folder in [Path(tasks.__file__).parents[2]])
    import json

    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(spec().to_json())],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert float(done.stdout) == run(spec()).score


def test_a_failure_of_the_machine_is_told_now_and_tried_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = tasks.load("toy")
    spec = RunSpec(
        task="toy", fingerprint=task.fingerprint, model="linear", method="full", lr=1.0, recipe=task.recipe, seed=0
    )

    def no_memory(*_: object, **options: object) -> None:
        raise MemoryError("no room for theta")

    with Store(tmp_path) as store, Serial(store) as engine:
        with monkeypatch.context() as patch:
            patch.setattr("idim.runs.engine.train", no_memory)
            outcome = engine.map([spec])[spec.key]
        assert outcome.failed
        assert "no room for theta (batch of all rows: lower --batch" in outcome.message
        (row,) = store.rows()
        assert (row["status"], row["message"]) == ("failed", outcome.message)
        assert list(store.outcomes()) == [outcome]
        assert not engine.map([spec])[spec.key].failed
        assert [(row["status"], row["message"], row["attempt"]) for row in store.rows()] == [("done", None, 2)]
