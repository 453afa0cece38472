"""Tables of texts and labels: ``csv:FOLDER`` and ``csv:FILE``, comma-separated or parquet.

A folder holds ``train`` and ``dev`` (or ``validation``) and ``test``, or one of the two, each as
``.csv``, ``.csv.gz`` or ``.parquet``. Columns are ``text``, ``text2`` where rows are pairs, and ``label``; other
names are given behind the path: ``csv:reviews.csv,text=review,label=stars,metric=spearman``.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from idim.errors import RequestError, unknown
from idim.tasks.labels import checked_metric, text_task
from idim.tasks.metrics import Metric
from idim.tasks.task import Task
from idim.tasks.texts import Part, Table, Texts, split

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".csv.gz", ".csv", ".parquet")
PARTS: dict[str, Part] = {"train": "train", "dev": "dev", "validation": "dev", "test": "test"}
OPTIONS = ("text", "text2", "label", "metric")
FORM = "csv:PATH[,text=COLUMN][,text2=COLUMN][,label=COLUMN][,metric=NAME]"
UNLABELLED = {"", "-1"}  # what a test split has in place of labels that are kept secret

Stamps = tuple[tuple[Part, Path, int, int], ...]  # each split's file, its size and its time of change


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Names of the columns; ``text2`` may be missing where it was not asked for, and there may be no label."""

    text: str = "text"
    text2: str | None = None
    label: str | None = "label"


def load(argument: str) -> Task:
    """Return the task of what follows ``csv:``.

    Raises:
        RequestError: for a missing path, column or label, and for tables that are broken or disagree.
    """
    path, options = parse(argument, FORM, OPTIONS)
    metric = checked_metric(options.pop("metric")) if "metric" in options else None
    return folder_or_file(f"csv:{argument}", Path(os.path.expanduser(path)), Columns(**options), metric)


def parse(argument: str, form: str, known: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Return the path or name and the options ``key=value`` behind its commas.

    Raises:
        RequestError: for an unknown option, or one without a value.
    """
    path, *pairs = argument.split(",")
    options = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if key not in known:
            raise unknown(f"option of {form}", key, known)
        if not value:
            raise RequestError(f"{form} needs a value for {key!r}; received {argument!r}")
        options[key] = value
    return path, options


def folder_or_file(name: str, path: Path, columns: Columns, metric: Metric | None) -> Task:
    """Return the task of a folder of splits or of one file; read once a process while its files do not change.

    Raises:
        RequestError: as :func:`load`.
    """
    return _load(name, columns, metric, stamps(name, path, SUFFIXES))


def stamps(name: str, path: Path, suffixes: Sequence[str]) -> Stamps:
    """Return the files of the splits, each with its size and time of change: a folder's, or the one file.

    Raises:
        RequestError: when the path is neither.
    """
    if path.is_dir():
        places = {part: file for word, part in PARTS.items() if (file := _split_file(path, word, suffixes))}
    elif path.is_file() and path.name.endswith(tuple(suffixes)):
        places = {"train": path}
    else:
        raise RequestError(
            f"task {name!r} needs a folder of train{suffixes[0]} and its like, or a file of {', '.join(suffixes)}; "
            f"received {str(path)!r}, which {'is of another kind' if path.exists() else 'does not exist'}"
        )
    return tuple((part, p.resolve(), p.stat().st_size, p.stat().st_mtime_ns) for part, p in places.items())


def _split_file(folder: Path, word: str, suffixes: Sequence[str]) -> Path | None:
    return next((p for suffix in suffixes if (p := folder / f"{word}{suffix}").is_file()), None)


@functools.lru_cache(maxsize=4)
def _load(name: str, columns: Columns, metric: Metric | None, files: Stamps) -> Task:
    read = {part: read_table(path, columns) for part, path, _, _ in files}
    return text_task(name, split(labelled(read, name), f"task {name!r}"), metric=metric)


def labelled(tables: Mapping[Part, Table], name: str) -> dict[Part, Table]:
    """Return the splits without those whose labels are all kept secret (empty, or -1).

    Raises:
        RequestError: for an empty text.
    """
    kept = {part: table for part, table in tables.items() if part == "train" or not set(table.labels) <= UNLABELLED}
    for part, table in kept.items():
        _check_texts(table, f"the {part} split of task {name!r}")
    return kept


def _check_texts(table: Table, place: str) -> None:
    for column in (table.texts.first, table.texts.second or ()):
        empty = [row for row, text in enumerate(column) if not text.strip()]
        if empty:
            raise RequestError(
                f"the texts of {place} must not be empty; received {len(empty)} empty ones, "
                f"the first in row {empty[0] + 1} of {len(column)}: drop those rows"
            )


def read_table(path: Path, columns: Columns) -> Table:
    """Return the rows of one file.

    Raises:
        RequestError: when it cannot be read or lacks a column.
    """
    import pandas as pd

    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
        else:
            frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError, EOFError, ImportError) as error:  # pandas' own parsing errors are ValueErrors
        raise RequestError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    return from_frame(frame, columns, str(path))


def from_frame(frame: pd.DataFrame, columns: Columns, place: str) -> Table:
    """Return the rows of a frame; a column ``text2`` is taken where there is one.

    Raises:
        RequestError: when a column is missing, or the frame has no rows.
    """
    second = columns.text2 or ("text2" if "text2" in frame.columns else None)
    for name in filter(None, (columns.text, second, columns.label)):
        if name not in frame.columns:
            raise RequestError(
                f"{place} must have the column {name!r}; received {', '.join(map(str, frame.columns)) or 'none'}: "
                f"name yours as in text=COLUMN{'' if columns.label is None else ',label=COLUMN'}"
            )
    if not len(frame):
        raise RequestError(f"{place} must have rows; received none")
    texts = Texts(first=_strings(frame, columns.text), second=None if second is None else _strings(frame, second))
    labels = ("",) * len(frame) if columns.label is None else _strings(frame, columns.label)
    return Table(texts=texts, labels=tuple(label.strip() for label in labels))


def _strings(frame: pd.DataFrame, column: str) -> tuple[str, ...]:
    return tuple(str(value) for value in frame[column].fillna("").tolist())
