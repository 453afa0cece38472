"""SIGKILL of workers and drivers at random moments: what was finished stays, the rest is made up."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from idim.runs import Outcome, Processes, RunSpec, Serial, Store

SpecMaker = Callable[..., RunSpec]

DRIVER = """
import json, sys
from idim.runs import Processes, RunSpec, Store, child
if sys.argv[3]:
    child.WORKER = ("-I", "-S", "-c", sys.argv[3])
specs = [RunSpec.from_json(line) for line in json.loads(sys.argv[2])]
with Store(sys.argv[1]) as store, Processes(store, workers=2) as engine:
    engine.map(specs, lambda outcome: print(outcome.spec.key, flush=True))
"""


def make_sweep(spec: SpecMaker, runs: int) -> list[RunSpec]:
    """Return runs of some ten milliseconds each, one of which fails."""
    quick = [spec(seed=seed, steps=200 + seed) for seed in range(runs)]
    return [*quick, spec(lr=1e300, optimizer="sgd"), spec(d=30)]


def finished(path: Path) -> dict[str, dict[str, Any]]:
    with Store.read(path) as store:
        return {row["key"]: row for row in store.rows() if row["status"] != "running"}


def assert_sound(path: Path, expected: dict[str, Outcome], kept: dict[str, dict[str, Any]]) -> None:
    """The store holds the expected outcomes, all finished, and rows that were there before are untouched."""
    with Store.read(path) as store:
        assert {outcome.spec.key: outcome for outcome in store.outcomes()} == expected
        assert "running" not in store.counts()
    rows = finished(path)
    assert {key: rows[key] for key in kept} == kept, "a finished training was repeated"
    with closing(sqlite3.connect(path / "runs.sqlite")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def kill_some(processes: Processes, moments: random.Random, times: int) -> Callable[[Outcome], None]:
    """Return a progress callback that kills workers in the middle of their work, ``times`` in all.

    No run is hit twice, because three deaths are a verdict on the run.
    """
    calls, hit = itertools.count(), set[str]()
    victims = sorted(moments.sample(range(20), times))

    def told(_: Outcome) -> None:
        fresh = [child for child, spec in processes._busy.items() if spec.key not in hit]
        if victims and next(calls) >= victims[0] and fresh:
            victims.pop(0)
            time.sleep(moments.uniform(0, 0.03))
            victim = moments.choice(fresh)
            hit.add(processes._busy[victim].key)
            os.kill(victim._process.pid, signal.SIGKILL)

    return told


def kill_a_driver(path: Path, sweep: list[RunSpec], moments: random.Random, program: str) -> list[str]:
    """Start a driver, kill it at a random moment; return the keys that it had acknowledged."""
    content = json.dumps([spec.to_json() for spec in sweep])
    command = [sys.executable, "-c", DRIVER, str(path), content, program]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    told = [driver.stdout.readline().strip() for _ in range(moments.randrange(3))]
    time.sleep(moments.uniform(0.0, 0.1 if told else 2.0))
    children = psutil.Process(driver.pid).children()
    driver.kill()
    told += driver.communicate()[0].split()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive, "workers must not outlive their driver"
    return [key for key in told if key]


def workers_die(path: Path, sweep: list[RunSpec], times: int, seed: int) -> dict[str, Outcome]:
    with Store(path) as store, Processes(store, workers=2) as processes:
        outcomes = processes.map(sweep, kill_some(processes, random.Random(seed), times))
        assert 0 < len({row["key"] for row in store.rows() if row["attempt"] > 1}) <= times
    return outcomes


def drivers_die(path: Path, sweep: list[RunSpec], times: int, seed: int, program: str = "") -> dict[str, Any]:
    """Kill drivers, one after another on one store; return the rows that they finished."""
    moments, kept = random.Random(seed), dict[str, Any]()
    for _ in range(times):
        acknowledged = kill_a_driver(path, sweep, moments, program)
        rows = finished(path) if (path / "runs.sqlite").exists() else {}
        assert set(acknowledged) <= set(rows), "what was acknowledged is kept"
        assert {key: rows[key] for key in kept} == kept, "a finished training was repeated"
        kept = rows
    return kept


def serial(path: Path, sweep: list[RunSpec]) -> dict[str, Outcome]:
    with Store(path) as store:
        return Serial(store).map(sweep)


def processes(path: Path, sweep: list[RunSpec]) -> dict[str, Outcome]:
    with Store(path) as store, Processes(store, workers=2) as engine:
        return engine.map(sweep)


def test_killed_workers_cost_nothing_but_time(tmp_path: Path, spec: SpecMaker, puppets: str) -> None:
    sweep = make_sweep(spec, 60)
    outcomes = workers_die(tmp_path / "store", sweep, times=10, seed=0)
    assert outcomes == processes(tmp_path / "undisturbed", sweep)
    assert_sound(tmp_path / "store", outcomes, {})


def test_killed_drivers_lose_nothing_acknowledged(tmp_path: Path, spec: SpecMaker, puppets: str) -> None:
    sweep = make_sweep(spec, 300)
    kept = drivers_die(tmp_path / "store", sweep, times=2, seed=1, program=puppets)
    outcomes = processes(tmp_path / "store", sweep)
    assert outcomes == processes(tmp_path / "undisturbed", sweep)
    assert_sound(tmp_path / "store", outcomes, kept)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killed_workers_twenty_times(tmp_path: Path, spec: SpecMaker, seed: int) -> None:
    sweep = make_sweep(spec, 24)
    outcomes = workers_die(tmp_path / "store", sweep, times=5, seed=seed)
    assert outcomes == serial(tmp_path / "undisturbed", sweep)
    assert_sound(tmp_path / "store", outcomes, {})


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killed_drivers_twenty_times(tmp_path: Path, spec: SpecMaker, seed: int) -> None:
    sweep = make_sweep(spec, 60)
    kept = drivers_die(tmp_path / "store", sweep, times=5, seed=seed)
    outcomes = serial(tmp_path / "store", sweep)
    assert outcomes == serial(tmp_path / "undisturbed", sweep)
    assert_sound(tmp_path / "store", outcomes, kept)
