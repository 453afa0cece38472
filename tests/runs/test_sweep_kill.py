"""A driver of a sweep that is killed at random moments and started again leaves the store of an undisturbed one."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from idim.runs import Store
from idim.runs.overview import Overview
from idim.runs.sweeps.request import SweepRequest
from idim.runs.sweeps.sweep import run_sweep

SWEEP = "{task: toy, seed: {range: 150}, lr: [0.5, 2.0], grids: [{d: 5}]}"  # at lr 2 the puppets' runs fail
PROGRAM = """
import sys
from idim import cli
from idim.runs import child
child.WORKER = ("-I", "-S", "-c", sys.argv[1])
cli.main(sys.argv[2:])
"""


def start(folder: Path, program: str) -> subprocess.Popen[bytes]:
    """Start a sweep of 300 runs, half of which fail, with two workers that train nothing."""
    sweep = ["sweep", str(folder / "a.yaml"), "--store", str(folder / "store"), "--workers", "2", "--quiet"]
    return subprocess.Popen([sys.executable, "-c", PROGRAM, program, *sweep], stderr=subprocess.PIPE)


def finish(folder: Path) -> None:
    """Carry a sweep to its end, in this process, whose workers are puppets too."""
    run_sweep(SweepRequest(spec=folder / "a.yaml", store=folder / "store", workers=2, quiet=True))


def finished(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Return all of every finished row, after an integrity check."""
    path = folder / "store" / "runs.sqlite"
    if not path.exists():
        return {}
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            return {}  # killed while it was being made
        return {row[0]: row for row in connection.execute("SELECT * FROM runs WHERE status <> 'running'")}


def kill(folder: Path, program: str, moments: random.Random) -> None:
    """Start a driver and kill it a random while after it has begun to write, or before."""
    process = start(folder, program)
    before, until = len(finished(folder)), time.monotonic() + moments.choice([2.0, 30.0, 30.0])
    while len(finished(folder)) == before and time.monotonic() < until and process.poll() is None:
        time.sleep(0.01)
    time.sleep(moments.uniform(0, 0.15))
    children = psutil.Process(process.pid).children() if process.poll() is None else []
    process.kill()
    process.communicate()
    assert not psutil.wait_procs(children, timeout=20)[1], "workers must not outlive their driver"


def outcomes(folder: Path) -> dict[str, tuple[str, float | None]]:
    """Return status and score of every run."""
    with Store.read(folder / "store") as store:
        return {row["key"]: (row["status"], (row["result"] or {}).get("score")) for row in store.rows()}


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_killed_and_started_again(kills: int, tmp_path: Path, puppets: str) -> None:
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    moments, kept = random.Random(kills), dict[str, tuple[Any, ...]]()
    for folder in (broken, whole):
        folder.mkdir()
        (folder / "a.yaml").write_text(SWEEP)
    for _ in range(kills):
        kill(broken, puppets, moments)
        now = finished(broken)
        assert {key: now[key] for key in kept} == kept, "a finished run was lost or trained again"
        kept = now
    finish(broken)
    finish(whole)
    assert outcomes(broken) == outcomes(whole)
    view = Overview.read(broken / "store")
    assert (view.done, view.started, view.failed, view.driven) == (150, 0, 150, False)
    rows = finished(broken)
    assert {key: rows[key] for key in kept} == kept
