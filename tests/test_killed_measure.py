"""A measure that is killed at random moments and started again gives the report of the uninterrupted one."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

OPTIONS = ["--seeds", "2", "--budget", "14", "--steps", "60", "--workers", "2"]


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Start a small measure that writes into ``folder``."""
    places = ["--out", str(folder / "out"), "--store", str(folder / "store")]
    command = [sys.executable, "-m", "idim", "measure", "--quiet", *OPTIONS, *places]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(folder: Path) -> dict[str, Any]:
    """Carry a measure to its end and return its report without the seconds, which no two runs share."""
    process = start(folder)
    _, err = process.communicate(timeout=150)
    assert process.returncode == 0, err.decode()
    report: dict[str, Any] = json.loads((folder / "out" / "report.json").read_text())
    del report["seconds"]
    return report


def done(folder: Path) -> dict[str, tuple[str, int]]:
    """Return result and attempt of every finished run, after an integrity check."""
    database = folder / "store" / "runs.sqlite"
    if not database.exists():
        return {}
    with sqlite3.connect(database) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = connection.execute("SELECT key, result, attempt FROM runs WHERE status = 'done'").fetchall()
    return {key: (result, attempt) for key, result, attempt in rows}


def kill_somebody(process: subprocess.Popen[bytes], rng: random.Random) -> None:
    """SIGKILL the driver, or one of its workers, whichever the dice say."""
    workers = psutil.Process(process.pid).children(recursive=True)
    victim = rng.choice([process.pid, *(w.pid for w in workers)])
    psutil.Process(victim).send_signal(signal.SIGKILL)
    if victim != process.pid:
        time.sleep(rng.uniform(0, 0.5))
        process.kill()
    process.wait(timeout=30)


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_killed_and_started_again(kills: int, tmp_path: Path) -> None:
    rng = random.Random(kills)
    expected = finish(tmp_path / "whole")
    broken = tmp_path / "broken"
    kept: dict[str, tuple[str, int]] = {}
    for _ in range(kills):
        process = start(broken)
        time.sleep(rng.uniform(2.0, 9.0))
        if process.poll() is None:
            kill_somebody(process, rng)
        now = done(broken)
        assert {key: now[key] for key in kept} == kept, "a finished run was lost or trained again"
        kept = now
    assert finish(broken) == expected
    final = done(broken)
    assert {key: final[key] for key in kept} == kept
