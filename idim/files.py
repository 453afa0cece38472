"""Files that are whole or absent: written under a temporary name, synced and renamed."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from idim.errors import RequestError

LONGEST_NAME = 200  # letters; file systems take 255 bytes


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; on success it takes the name ``path``.

    Raises:
        RequestError: when the disk refuses: full, gone, or something else has the name.
    """
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        temporary.touch(exist_ok=False)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise RequestError(f"the file {path} must be writable; received: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: object) -> None:
    """Write ``content`` as indented JSON; NaN and infinity are errors, not JSON."""
    text = json.dumps(content, indent=2, allow_nan=False)
    with replace_file(path) as temporary:
        temporary.write_text(text + "\n")


def named_folder(*words: str) -> Path:
    """Return the folder of ``idim-out`` for what the words name; what a name of a folder cannot hold becomes ``_``.

    >>> named_folder("methods", "csv:a/b.csv", "minilm").name
    'methods-csv_a_b.csv-minilm'
    """
    name = "-".join(words)
    return Path("idim-out") / "".join(c if c.isalnum() or c in "-_.," else "_" for c in name)[:LONGEST_NAME]


def writable_folder(path: Path) -> Path:
    """Create the folder if needed and prove that a file can be written there.

    Raises:
        RequestError: when it cannot, with the reason: found before the work, not after.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as probe:
            probe.write(b"idim")
            probe.flush()
    except OSError as error:
        raise RequestError(f"the output folder must be writable; received {path}: {error.strerror}") from error
    return path


def paths_from_text(request: object, *names: str) -> None:
    """Make the named fields of a frozen request paths, where a caller in Python gave text."""
    for name in names:
        if isinstance(value := getattr(request, name), str):
            object.__setattr__(request, name, Path(value))
