"""A program for the test of kills: serves ``idim spectrum`` in children of one process, and kills some of them.

Usage: kill_spectrum.py BASE TUNED WHOLE BROKEN KILLS SEED. It carries the command to its end in WHOLE; in BROKEN it
starts it KILLS times and kills it with SIGKILL at a random moment, then once more to its end. Torch is imported
once, before the children are made, so that a start costs milliseconds and the kill falls on the work. Prints how
many starts were killed before their end.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import matplotlib.backends.backend_agg  # noqa: F401  what the children would each import again
import pandas  # noqa: F401

import idim.spectral.spectrum  # noqa: F401
from idim.cli import main


def start(arguments: list[str]) -> int:
    """Serve a command in a child; return its process id."""
    child = os.fork()
    if child == 0:
        try:
            main(arguments)
        except SystemExit as leaving:
            os._exit(leaving.code if isinstance(leaving.code, int) else 1)
        os._exit(1)
    return child


def lines(out: Path) -> int:
    """Return the number of lines in the journals of ``out``."""
    return sum(path.read_bytes().count(b"\n") for path in out.glob("finished/*.jsonl"))


def kill_at_random(child: int, out: Path, rng: random.Random) -> bool:
    """Kill a child some tensors or some time later, whichever is first; say whether it still ran."""
    goal, deadline = lines(out) + rng.randint(0, 6), time.monotonic() + rng.uniform(0.2, 3)
    while lines(out) < goal and time.monotonic() < deadline:
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
    time.sleep(rng.uniform(0, 0.02))
    os.kill(child, signal.SIGKILL)
    killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
    if (report := out / "report.json").exists():
        json.loads(report.read_text())  # whole or absent
    return killed


def finish(command: list[str]) -> None:
    """Carry a command to its end, which must be a good one."""
    status = os.waitstatus_to_exitcode(os.waitpid(start(command), 0)[1])
    if status:
        sys.exit(f"the status must be 0; it is {status}")


def program(base: str, tuned: str, whole: str, broken: str, kills: str, seed: str) -> None:
    """Carry it out."""
    rng = random.Random(int(seed))
    command = ["spectrum", base, tuned, "--quiet", "--out"]
    finish([*command, whole])
    starts = range(int(kills))
    killed = sum(kill_at_random(start([*command, broken]), Path(broken), rng) for _ in starts)
    finish([*command, broken])
    print(killed)


if __name__ == "__main__":
    program(*sys.argv[1:])
