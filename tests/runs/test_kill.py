"""SIGKILL of workers and drivers at random moments: what was finished stays, the rest is made up."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
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
from idim.runs import Processes, RunSpec, Store
specs = [RunSpec.from_json(line) for line in json.loads(sys.argv[2])]
with Store(sys.argv[1]) as store, Processes(store, workers=2) as engine:
    engine.map(specs, lambda outcome: print(outcome.spec.key, flush=True))
"""


@pytest.fixture
def sweep(spec: SpecMaker) -> list[RunSpec]:
    """Return runs of some ten milliseconds each, one of which fails."""
    return [spec(seed=seed, steps=60 + seed, d=5 + seed) for seed in range(24)] + [spec(lr=1e300, optimizer="sgd")]


@pytest.fixture
def expected(tmp_path: Path, sweep: list[RunSpec]) -> dict[str, Outcome]:
    with Store(tmp_path / "undisturbed") as store:
        return Serial(store).map(sweep)


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


def kill_workers(processes: Processes, times: int, moments: random.Random, done: threading.Event) -> list[int]:
    """Kill a worker, at random moments, as often as asked while the sweep lasts; return those killed."""
    killed: list[int] = []
    while len(killed) < times and not done.wait(moments.uniform(0.0, 0.3)):
        alive = [c._process.pid for c in [*processes._busy, *processes._idle] if c._process.pid not in killed]
        if alive:
            killed.append(moments.choice(alive))
            os.kill(killed[-1], signal.SIGKILL)
    return killed


def kill_a_driver(path: Path, sweep: list[RunSpec], moments: random.Random) -> list[str]:
    """Start a driver, kill it at a random moment; return the keys that it had acknowledged."""
    content = json.dumps([spec.to_json() for spec in sweep])
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(path), content], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    told = [driver.stdout.readline().strip() for _ in range(moments.randrange(3))]
    time.sleep(moments.uniform(0.0, 0.1 if told else 2.0))
    children = psutil.Process(driver.pid).children()
    driver.kill()
    told += driver.communicate()[0].split()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive, "workers must not outlive their driver"
    return [key for key in told if key]


def workers_die(path: Path, sweep: list[RunSpec], expected: dict[str, Outcome], times: int, seed: int) -> int:
    with Store(path) as store, Processes(store, workers=2) as processes:
        done, killed = threading.Event(), list[int]()
        killer = threading.Thread(
            target=lambda: killed.extend(kill_workers(processes, times, random.Random(seed), done))
        )
        killer.start()
        outcomes = processes.map(sweep)
        done.set()
        killer.join()
    assert outcomes == expected
    assert_sound(path, expected, {})
    return len(killed)


def drivers_die(path: Path, sweep: list[RunSpec], expected: dict[str, Outcome], times: int, seed: int) -> None:
    moments = random.Random(seed)
    kept: dict[str, dict[str, Any]] = {}
    for _ in range(times):
        acknowledged = kill_a_driver(path, sweep, moments)
        rows = finished(path) if (path / "runs.sqlite").exists() else {}
        assert set(acknowledged) <= set(rows), "what was acknowledged is kept"
        assert {key: rows[key] for key in kept} == kept, "a finished training was repeated"
        kept = rows
    with Store(path) as store:
        assert Serial(store).map(sweep) == expected
    assert_sound(path, expected, kept)


def test_killed_workers_cost_nothing_but_time(
    tmp_path: Path, sweep: list[RunSpec], expected: dict[str, Outcome]
) -> None:
    assert workers_die(tmp_path / "store", sweep, expected, times=2, seed=0) == 2


def test_killed_drivers_lose_nothing_acknowledged(
    tmp_path: Path, sweep: list[RunSpec], expected: dict[str, Outcome]
) -> None:
    drivers_die(tmp_path / "store", sweep, expected, times=2, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_killed_workers_twenty_times(
    tmp_path: Path, sweep: list[RunSpec], expected: dict[str, Outcome], seed: int
) -> None:
    workers_die(tmp_path / "store", sweep, expected, times=2, seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killed_drivers_twenty_times(
    tmp_path: Path, sweep: list[RunSpec], expected: dict[str, Outcome], seed: int
) -> None:
    drivers_die(tmp_path / "store", sweep, expected, times=5, seed=seed)
