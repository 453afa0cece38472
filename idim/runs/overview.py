"""What a store holds, counted by the database: the same time and memory for ten runs and for a hundred thousand.

Nothing here needs torch, so a look at a store is there at once.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from idim.errors import RequestError
from idim.runs import database

SHOWN = 20
"""Failed runs that are named one by one."""

COUNTS = "SELECT status, count(*) FROM runs GROUP BY status"
FAILED = "SELECT spec, message FROM runs WHERE status = 'failed' ORDER BY key LIMIT ?"
PLAN = "SELECT value FROM meta WHERE name = 'plan'"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a driver set out to do: runs to train, finished rows when it began, and when that was (Unix seconds)."""

    runs: int
    finished: int
    since: float

    def remaining(self, finished: int, now: float) -> tuple[int, float | None]:
        """Return how many runs are left, and the seconds they take at the rate so far; None: no rate yet."""
        done = max(0, finished - self.finished)
        left = max(0, self.runs - done)
        return left, left * max(0.0, now - self.since) / done if done else None


@dataclass(frozen=True, kw_only=True)
class Overview:
    """The runs of a store by status.

    Attributes:
        path: the store's folder.
        done, started, failed: numbers of runs.
        driven: whether a driver holds the store; a started run is running then, else cut off.
        failures: the first failed runs, in words, with the reason.
        left, seconds: runs that the driver has before it, and how long they take at the rate so far.
    """

    path: Path
    done: int
    started: int
    failed: int
    driven: bool
    failures: tuple[str, ...] = ()
    left: int | None = None
    seconds: float | None = None

    @classmethod
    def read(cls, path: Path) -> Overview:
        """Look at a store, also while a driver writes it.

        Raises:
            RequestError: when there is no store, or it was written by a newer version.
        """
        with closing(database.open_to_read(path / database.NAME)) as connection:
            return cls.of(path, connection)

    @classmethod
    def of(cls, path: Path, connection: sqlite3.Connection) -> Overview:
        """Look at a store through a connection."""
        with _told(path):
            counts = count(connection)
            driven = database.is_locked(path / database.LOCK)
            plan = connection.execute(PLAN).fetchone() if driven else None
            failures = tuple(_failure(*row) for row in connection.execute(FAILED, (SHOWN,)))
        done, failed = counts.get("done", 0), counts.get("failed", 0)
        left = seconds = None
        if plan is not None:
            left, seconds = Plan(**json.loads(plan[0])).remaining(done + failed, time.time())
        started = counts.get("running", 0)
        return cls(
            path=path, done=done, started=started, failed=failed, driven=driven, failures=failures,
            left=left, seconds=seconds,
        )  # fmt: skip

    def __str__(self) -> str:
        head = f"{self.path}: {self.done} done, {self.started} {'running' if self.driven else 'cut off'}"
        return "\n".join([f"{head}, {self.failed} failed", *self._remaining(), *self._failures()])

    def _remaining(self) -> Iterator[str]:
        if self.left is not None:
            rate = "no run has finished yet" if self.seconds is None else f"about {duration(self.seconds)} at this rate"
            yield f"  {self.left} to go: {rate}"

    def _failures(self) -> Iterator[str]:
        yield from (f"  {failure}" for failure in self.failures)
        if self.failed > len(self.failures):
            yield f"  ... and {self.failed - len(self.failures)} more failed; idim export has them all"


def count(connection: sqlite3.Connection) -> dict[str, int]:
    """Return the number of runs by status."""
    return {row[0]: row[1] for row in connection.execute(COUNTS)}


def duration(seconds: float) -> str:
    """Return a length of time in words.

    >>> duration(7.6), duration(200), duration(9000), duration(300_000)
    ('8 s', '3 min', '2.5 h', '3.5 days')
    """
    for unit, size, digits in (("days", 86_400.0, 1), ("h", 3600.0, 1), ("min", 60.0, 0)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.{digits}f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 1 else "1 s"


def run_in_words(spec: dict[str, Any]) -> str:
    """Return which run it is among those of one experiment."""
    what = spec["method"] if spec.get("d") is None else f"d={spec['d']}"
    return f"{what} seed={spec['seed']}"


def _failure(spec: str, message: str) -> str:
    return f"{run_in_words(json.loads(spec))} failed: {message}"


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise RequestError(f"the store {path} must stay readable; received: {error}") from error
