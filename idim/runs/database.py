"""The SQLite file of a store: its marks, its table, its lock."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from idim.errors import RequestError

NAME = "runs.sqlite"
LOCK = "lock"
APPLICATION = 0x6964696D  # "idim": tells this file from any other database
SCHEMA_VERSION = 1  # raised when an older idim could no longer read the table

SCHEMA = (
    f"PRAGMA application_id = {APPLICATION}",
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    f"INSERT INTO meta VALUES ('schema', '{SCHEMA_VERSION}')",
    """CREATE TABLE runs (
        key TEXT PRIMARY KEY,
        spec TEXT NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('running', 'done', 'failed')),
        result TEXT,
        message TEXT,
        attempt INTEGER NOT NULL,
        host TEXT NOT NULL,
        versions TEXT NOT NULL,
        seconds REAL
    )""",
)

INDEX = "CREATE INDEX IF NOT EXISTS runs_by_status ON runs (status)"
"""Counts and failures without reading every row; older versions read and write a store that has it."""


def lock(path: Path, store: Path) -> sqlite3.Connection:
    """Return a connection that holds the exclusive lock of a store until it is closed or the process ends.

    Raises:
        RequestError: when another driver holds it.
    """
    connection = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error as error:
        connection.close()
        raise RequestError(
            f"a store takes one writer at a time; received {store}, which another process is writing "
            f"({error}): wait for it to end, or give another store"
        ) from error
    return connection


def is_locked(path: Path) -> bool:
    """Return whether a driver holds the lock; asking neither makes the file nor takes the lock."""
    if not path.exists():
        return False
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=0)) as connection:
        try:
            connection.execute("SELECT count(*) FROM sqlite_master")
        except sqlite3.OperationalError as error:
            return "locked" in str(error)
    return False


def open_or_create(path: Path) -> sqlite3.Connection:
    """Return a writing connection to a store's database; an empty or absent file becomes one.

    Raises:
        RequestError: when the file is something else, is of a newer version, or cannot be written.
    """
    with _refused(path):
        connection = _connect(f"{path.absolute().as_uri()}?mode=rwc")
        try:
            if _is_empty(connection):
                with transaction(connection):
                    for statement in SCHEMA:
                        connection.execute(statement)
            check(connection, path)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            with transaction(connection):
                connection.execute("INSERT OR REPLACE INTO meta VALUES ('opened', datetime('now'))")
                connection.execute("DELETE FROM meta WHERE name = 'plan'")  # another driver's
                connection.execute(INDEX)
        except BaseException:
            connection.close()
            raise
    return connection


def open_to_read(path: Path) -> sqlite3.Connection:
    """Return a reading connection to a store's database.

    Raises:
        RequestError: when there is none, the file is something else, or it is of a newer version.
    """
    if not os.path.isfile(path):
        raise RequestError(f"a store is a folder with {path.name}; received {path.parent}, which has none")
    # A finished store in a folder that cannot be written has no log, and SQLite could not make its index.
    frozen = not os.access(path.parent, os.W_OK) and not path.with_name(f"{path.name}-wal").exists()
    with _refused(path):
        connection = _connect(f"{path.absolute().as_uri()}?{'immutable=1' if frozen else 'mode=ro'}")
        try:
            check(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Raise RequestError unless the database is a store that this version can read."""
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION:
        raise RequestError(f"a store's {path.name} must be a database of idim; received {path}, of another program")
    version = int(connection.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()[0])
    if version > SCHEMA_VERSION:
        raise RequestError(
            f"this idim reads stores up to version {SCHEMA_VERSION}; received {path} of version {version}: "
            "install a newer idim, or give another store"
        )


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit what is done inside, or nothing of it, also when interrupted."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _connect(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, timeout=30, isolation_level=None)
    connection.row_factory = sqlite3.Row
    return connection


def _is_empty(connection: sqlite3.Connection) -> bool:
    marked = connection.execute("PRAGMA application_id").fetchone()[0]
    return not marked and not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, TypeError, ValueError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"a store's {path.name} must be a database of idim; received {path}: {error}") from error
