"""Finished matrices on the disk, one line of JSON each, so that a killed run goes on where it was.

A line is given to the operating system before the next matrix starts, so a killed process loses the matrix
it had in hand and nothing else; the disk is synced at most twice a second, so a power failure costs half a
second of work. A last line that was cut off is dropped. The name of the file is a hash of the question
(the pair's fingerprint, the options, the version of the numbers), so answers to another question are
never read.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from idim.errors import RequestError
from idim.files import writable_folder

FOLDER = "finished"
SYNC_SECONDS = 0.5


class Journal:
    """Records by name in one file, appended as they are made; use it in a ``with`` statement.

    Args:
        out: the folder of the report.
        question: plain data that the records depend on.

    Raises:
        RequestError: when the folder is not writable.
    """

    def __init__(self, out: Path, question: Mapping[str, object]) -> None:
        text = json.dumps(question, sort_keys=True, allow_nan=False)
        self.path = writable_folder(out / FOLDER) / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.jsonl"
        with _told(self.path):
            self._file = self.path.open("ab+")
            self.records = self._read()
        self._synced = time.monotonic()
        self._lock = Lock()

    def keep(self, name: str, record: Mapping[str, Any]) -> None:
        """Append a record: with the operating system when this returns. Threads take turns."""
        line = json.dumps({"name": name, "record": record}, allow_nan=False) + "\n"
        with self._lock, _told(self.path):
            self._file.write(line.encode())
            self._file.flush()
            if time.monotonic() - self._synced > SYNC_SECONDS:
                self._sync()
        self.records[name] = dict(record)

    def _sync(self) -> None:
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def _read(self) -> dict[str, dict[str, Any]]:
        """Return the whole lines, and cut off what follows the last of them."""
        records: dict[str, dict[str, Any]] = {}
        self._file.seek(0)
        end = 0
        for line in self._file:
            entry = _entry(line)
            if entry is None:
                break
            records[entry[0]] = entry[1]
            end += len(line)
        self._file.truncate(end)
        return records

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        with _told(self.path):
            self._sync()
            self._file.close()


def _entry(line: bytes) -> tuple[str, dict[str, Any]] | None:
    """Return name and record of a whole line, None for one that was cut off or altered."""
    try:
        entry = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    if not (isinstance(entry, dict) and isinstance(entry.get("name"), str) and isinstance(entry.get("record"), dict)):
        return None
    return entry["name"], entry["record"]


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RequestError(f"the file {path} must be writable; received: {error.strerror}") from error
