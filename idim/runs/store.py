"""The store: one folder that keeps the outcome of every run under the key of its spec.

``runs.sqlite`` has one row a run, its status one of

- ``running``: a driver started it; if that driver is gone, it is taken up again when it is asked for;
- ``done``: its result is there and is never computed again;
- ``failed``: its message is there. A failure of the run is not tried again at the same RUN_VERSION; one of the
  machine (no memory, a killed worker), whose result says ``{"passing": true}``, is when it is next asked for.

``artifacts/<key>/`` is kept for tensors of a run. Only one driver writes a store at a time: it holds an
exclusive lock on the file ``lock``, which the operating system releases however the driver ends. Every
outcome is committed with a synced write-ahead log before it is acknowledged.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from sqlite3 import Error
from typing import Any

from idim.errors import RequestError
from idim.runs import database
from idim.runs.environment import host, versions
from idim.runs.overview import Overview, Plan, count
from idim.runs.result import Outcome, RunResult
from idim.runs.spec import RunSpec, canonical

DATABASE = database.NAME
LOCK = database.LOCK
ARTIFACTS = "artifacts"
OWN = {DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", f"{DATABASE}-journal", LOCK, f"{LOCK}-journal", ARTIFACTS}
PROBE = 1 << 20  # bytes that must fit on the disk before training starts

SETTLED = "(status = 'done' OR (status = 'failed' AND result IS NULL))"
PASSING = canonical({"passing": True})
FIND = f"SELECT spec, status, result, message FROM runs WHERE key = ? AND {SETTLED}"
START = f"""
INSERT INTO runs (key, spec, status, attempt, host, versions) VALUES (?, ?, 'running', 1, ?, ?)
ON CONFLICT (key) DO UPDATE SET status = 'running', result = NULL, message = NULL, attempt = attempt + 1,
host = excluded.host, versions = excluded.versions
WHERE NOT {SETTLED}
"""
FINISH = """
UPDATE runs SET status = ?, result = ?, message = ?, seconds = ?, host = coalesce(?, host)
WHERE key = ? AND status = 'running'
"""
ADOPT = f"""
INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET status = excluded.status, result = excluded.result, message = excluded.message,
attempt = excluded.attempt, host = excluded.host, versions = excluded.versions, seconds = excluded.seconds
WHERE NOT {SETTLED}
"""


class Store:
    """Outcomes by key, in a folder; made if it does not exist. Use it in a ``with`` statement.

    Args:
        path: the folder.

    Raises:
        RequestError: before anything trains, when the folder cannot be written, is full, is in use by
            another driver, is no store, or was written by a newer version.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        with ExitStack() as stack:
            _writable(self.path)
            lock = stack.enter_context(closing(database.lock(self.path / LOCK, self.path)))
            self._connection = stack.enter_context(closing(database.open_or_create(self.path / DATABASE)))
            self._open = stack.pop_all()
        del lock  # held by the stack until close

    @classmethod
    def read(cls, path: Path | str) -> Store:
        """Return a store to look at, also while a driver writes it; it takes no lock and writes nothing.

        Raises:
            RequestError: when there is no store, or it was written by a newer version.
        """
        store = cls.__new__(cls)
        store.path = Path(path)
        store._open = ExitStack()
        store._connection = store._open.enter_context(closing(database.open_to_read(store.path / DATABASE)))
        return store

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the store."""
        self._open.close()

    # -- outcomes -------------------------------------------------------------------------------

    def get(self, spec: RunSpec) -> Outcome | None:
        """Return the outcome of a spec, or None where it is not finished or is to be tried again."""
        with _told(self.path):
            row = self._connection.execute(FIND, (spec.key,)).fetchone()
        return None if row is None else _outcome(spec, row)

    def outcomes(self) -> Iterator[Outcome]:
        """Yield every finished run, in the order of the keys."""
        with _told(self.path):
            rows = self._connection.execute("SELECT * FROM runs WHERE status <> 'running' ORDER BY key").fetchall()
        for row in rows:
            yield _outcome(RunSpec.from_json(json.loads(row["spec"])), row)

    def start(self, specs: Iterable[RunSpec]) -> None:
        """Mark runs as running, each with one attempt more."""
        self.record((), specs)

    def finish(self, outcomes: Iterable[Outcome]) -> None:
        """Keep outcomes of runs that were started: on the disk when this returns."""
        self.record(outcomes, ())

    def record(self, finished: Iterable[Outcome], started: Iterable[RunSpec]) -> None:
        """Finish some runs and start others in one commit."""
        with _told(self.path), database.transaction(self._connection):
            self._connection.executemany(FINISH, [_finish_row(outcome) for outcome in finished])
            self._connection.executemany(START, [_start_row(spec) for spec in started])

    def release(self) -> None:
        """Forget runs that were started and will not be finished; finished ones stay."""
        with _told(self.path), database.transaction(self._connection):
            self._connection.execute("DELETE FROM runs WHERE status = 'running'")

    def plan(self, runs: int) -> None:
        """Note that this driver is about to train so many runs, for those who look at the store meanwhile."""
        counts = self.counts()
        plan = Plan(runs=runs, finished=counts.get("done", 0) + counts.get("failed", 0), since=time.time())
        with _told(self.path), database.transaction(self._connection):
            self._connection.execute("INSERT OR REPLACE INTO meta VALUES ('plan', ?)", (canonical(vars(plan)),))

    def finished_keys(self) -> set[str]:
        """Return the keys of the runs that are done, or failed for good."""
        with _told(self.path):
            return {row[0] for row in self._connection.execute(f"SELECT key FROM runs WHERE {SETTLED}")}

    def adopt(self, other: Path | str) -> int:
        """Copy the finished runs of another store that this one lacks; return how many.

        Raises:
            RequestError: when there is no store, or it was written by a newer version.
        """
        with closing(database.open_to_read(Path(other) / DATABASE)) as source, _told(self.path):
            before = len(self.finished_keys())
            with database.transaction(self._connection):
                self._connection.executemany(ADOPT, source.execute(f"SELECT * FROM runs WHERE {SETTLED}"))
            return len(self.finished_keys()) - before

    def artifacts(self, spec: RunSpec) -> Path:
        """Return the folder for the tensors of a run (made when something is first written there)."""
        return self.path / ARTIFACTS / spec.key

    # -- what it holds ----------------------------------------------------------------------------

    def rows(self) -> list[dict[str, Any]]:
        """Return every row as plain data, in the order of the keys; JSON columns are parsed."""
        with _told(self.path):
            rows = self._connection.execute("SELECT * FROM runs ORDER BY key").fetchall()
        return [_parsed(dict(row)) for row in rows]

    def counts(self) -> dict[str, int]:
        """Return the number of runs by status."""
        with _told(self.path):
            return count(self._connection)

    def summary(self) -> str:
        """Return the counts in words, then a line for each of the first failed runs.

        A started run is ``running`` while a driver holds the store, else ``cut off``: it is taken up again
        when it is next asked for.
        """
        return str(Overview.of(self.path, self._connection))


def _start_row(spec: RunSpec) -> tuple[object, ...]:
    return spec.key, canonical(spec.to_json()), host(), canonical(versions())


def _finish_row(outcome: Outcome) -> tuple[object, ...]:
    place, result = (outcome.host, outcome.spec.key), outcome.result
    if result is None:
        return "failed", PASSING if outcome.passing else None, outcome.message, None, *place
    return "done", canonical(result.to_json()), None, result.seconds, *place


def _outcome(spec: RunSpec, row: Mapping[str, Any]) -> Outcome:
    if row["status"] == "failed":
        return Outcome(spec=spec, message=row["message"], passing=row["result"] is not None)
    return Outcome(spec=spec, result=RunResult.from_json(json.loads(row["result"])))


def _parsed(row: dict[str, Any]) -> dict[str, Any]:
    return {k: json.loads(v) if k in ("spec", "result", "versions") and v else v for k, v in row.items()}


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what the disk refuses (full, gone, broken) into one line."""
    try:
        yield
    except Error as error:
        raise RequestError(f"the store {path} must stay readable and writable; received: {error}") from error


def _writable(path: Path) -> None:
    """Make the folder if needed; refuse one that holds other things, or that a megabyte does not fit into."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        names = {name for name in os.listdir(path) if name not in OWN}
        if names and not (path / DATABASE).exists():
            raise RequestError(
                f"the store must be a new or empty folder, or one with {DATABASE}; "
                f"received {path}, which holds {min(names)!r}"
            )
        with tempfile.TemporaryFile(dir=path, buffering=0) as probe:
            if probe.write(bytes(PROBE)) < PROBE:
                raise OSError(28, "No space left on device")
            os.fsync(probe.fileno())
    except OSError as error:
        raise RequestError(f"the store must be a writable folder; received {path}: {error.strerror}") from error
