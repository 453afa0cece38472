"""A spectrum killed at random moments and started again gives the report of the uninterrupted one, byte for byte."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from spectrum_cases import encoder, tuned, write

PROGRAM = Path(__file__).with_name("kill_spectrum.py")
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
LAYERS = 12


def models(folder: Path) -> list[str]:
    """Write a pair of models of 49 tensors; return their folders."""
    base = encoder(LAYERS)
    return [str(write(folder / "base", base)), str(write(folder / "tuned", tuned(base)))]


def carry_out(pair: list[str], whole: Path, broken: Path, kills: int) -> int:
    """Finish in one folder; start, kill and finish in the other; return the number of starts that were killed."""
    command = [sys.executable, str(PROGRAM), *pair, str(whole), str(broken), str(kills), "1"]
    done = subprocess.run(command, capture_output=True, text=True, env=ONE_THREAD, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def report(out: Path) -> dict[str, Any]:
    """Return the report without the seconds, which no two runs share."""
    content: dict[str, Any] = json.loads((out / "report.json").read_text())
    del content["seconds"]
    return content


@pytest.mark.parametrize("kills", [6, pytest.param(40, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_killed_and_started_again(kills: int, tmp_path: Path) -> None:
    pair = models(tmp_path)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert carry_out(pair, whole, broken, kills) >= 4
    (journal,) = (broken / "finished").iterdir()
    judged = Counter(json.loads(line)["name"] for line in journal.read_text().splitlines())
    assert set(judged.values()) == {1}, "a tensor was judged twice"
    assert len(judged) == 4 * LAYERS + 1
    assert report(broken) == report(whole)
    for name in ("matrices.parquet", "spectrum.png"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes(), name


def test_interrupted_is_130_and_keeps_what_is_finished(tmp_path: Path) -> None:
    pair, out = models(tmp_path), tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "idim", "spectrum", *pair, "--out", str(out)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=ONE_THREAD,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 90
    while not list(out.glob("finished/*.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    printed, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert printed == ""
    assert "Traceback" not in said
    assert said.endswith("idim: interrupted; what is finished is kept, the same command goes on from there\n")
    assert not (out / "report.json").exists()
