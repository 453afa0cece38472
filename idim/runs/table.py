"""The runs of stores as one table: a row a run, a column a field, named by its path.

``spec.d``, ``spec.recipe.steps``, ``result.score``, ``versions.torch``; beside them ``key``, ``status``,
``message``, ``attempt``, ``host``. A path is in the table if any run has it; a run without it has null there.

A figure asks for some columns of some runs: the database picks both, so that a hundred thousand runs are looked
through in less than a second or two.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from idim.errors import RequestError, unknown
from idim.files import replace_file
from idim.runs import database

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

PLAIN = ("key", "status", "message", "attempt", "host")
ROWS = f"SELECT {', '.join(PLAIN)}, spec, result, versions FROM runs ORDER BY key"


def read(stores: Sequence[Path]) -> pa.Table:
    """Return every run of some stores, in the order of the keys of each; a run that several have is there once.

    A finished run comes before an unfinished one of the same key.

    Raises:
        RequestError: when there is no store, or it was written by a newer version.
    """
    rows: dict[str, dict[str, Any]] = {}
    for row in _rows(stores):
        if row["key"] not in rows or rows[row["key"]]["status"] == "running":
            rows[row["key"]] = row
    return _table(list(rows.values()))


def select(store: Path, columns: Sequence[str], **where: object) -> pd.DataFrame:
    """Return some columns of the finished trainings of a store.

    Args:
        store: its folder.
        columns: paths, such as ``"spec.d"`` and ``"result.score"``.
        where: values that fields of the spec must have, such as ``task="mnist"``; None: the field is null.

    Raises:
        RequestError: when there is no store; for a path that names nothing.
    """
    import pandas as pd

    conditions = "".join(f" AND {_column(f'spec.{name}')} IS ?" for name in where)
    query = f"SELECT {', '.join(map(_column, columns))} FROM runs WHERE status = 'done'{conditions} ORDER BY key"
    with closing(database.open_to_read(store / database.NAME)) as connection, _told(store):
        rows = connection.execute(query, tuple(where.values())).fetchall()
    return pd.DataFrame.from_records([tuple(row) for row in rows], columns=list(columns))


def write(table: pa.Table, path: Path) -> None:
    """Write a table as what the name ends in: ``.parquet``, ``.json`` (a list of records) or ``.csv``.

    Raises:
        RequestError: for another ending, or when the disk refuses.
    """
    writers = {".parquet": _parquet, ".json": _json, ".csv": _csv}
    if path.suffix not in writers:
        raise unknown("kind of table", path.suffix, writers)
    with replace_file(path) as temporary:
        writers[path.suffix](table, temporary)


def _rows(stores: Iterable[Path]) -> Iterator[dict[str, Any]]:
    for store in stores:
        with closing(database.open_to_read(store / database.NAME)) as connection, _told(store):
            for row in connection.execute(ROWS):
                yield _flat(row)


def _flat(row: sqlite3.Row) -> dict[str, Any]:
    flat = {name: row[name] for name in PLAIN} | _defaults() | dict(_paths("spec", json.loads(row["spec"])))
    result = {} if row["result"] is None else dict(_paths("result", json.loads(row["result"])))
    return flat | result | _versions(row["versions"])


@functools.lru_cache(maxsize=64)
def _versions(text: str) -> dict[str, Any]:
    return dict(_paths("versions", json.loads(text)))


def _paths(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a value of JSON holds, each with its path; a list, such as a curve, as its text."""
    if not isinstance(value, dict):
        yield name, json.dumps(value) if isinstance(value, list) else value
    else:
        for key, inner in value.items():
            yield from _paths(f"{name}.{key}", inner)


@functools.cache
def _defaults() -> dict[str, Any]:
    """Return the fields of a spec that rows leave out where they are at their default."""
    from idim.runs import spec
    from idim.tasks import recipe

    places = (("spec", spec.RunSpec, spec.LATER), ("spec.recipe", recipe.Recipe, recipe.LATER))
    return {
        f"{place}.{field.name}": field.default
        for place, cls, later in places
        for field in dataclasses.fields(cls)
        if field.name in later
    }


@functools.cache
def _known() -> frozenset[str]:
    """Return the paths that a query may name."""
    from idim.runs.environment import versions
    from idim.runs.result import RunResult
    from idim.runs.spec import RunSpec
    from idim.tasks import Recipe

    places = {"spec": RunSpec, "spec.recipe": Recipe, "result": RunResult}
    fields = {f"{place}.{field.name}" for place, cls in places.items() for field in dataclasses.fields(cls)}
    return frozenset(fields - {"spec.recipe"} | set(PLAIN) | {f"versions.{name}" for name in versions()})


def _column(path: str) -> str:
    """Return the SQL of a path; its text is ours, so nothing that a user wrote enters a statement."""
    if path not in _known():
        raise unknown("column", path, _known())
    root, _, inner = path.partition(".")
    if not inner:
        return root
    found = f"json_extract({root}, '$.{inner}')"
    default = _defaults().get(path)
    if default is None:
        return found
    return f"coalesce({found}, {repr(default) if isinstance(default, str) else default + 0})"


def _table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return rows as a table, every column of one type: numbers, truth, or text."""
    import pyarrow as pa

    names = sorted(set().union(*rows)) if rows else [*PLAIN]
    ordered = [*PLAIN, *(name for name in names if name not in PLAIN)]
    return pa.table({name: _array([row.get(name) for row in rows]) for name in ordered})


def _array(values: list[Any]) -> pa.Array:
    import pyarrow as pa

    try:
        return pa.array(values)
    except (OverflowError, pa.ArrowInvalid, pa.ArrowTypeError):  # a seed beyond 64 bits
        return pa.array([None if value is None else str(value) for value in values])


def _parquet(table: pa.Table, path: Path) -> None:
    import pyarrow.parquet

    pyarrow.parquet.write_table(table, path)


def _csv(table: pa.Table, path: Path) -> None:
    import pyarrow.csv

    pyarrow.csv.write_csv(table, path)


def _json(table: pa.Table, path: Path) -> None:
    lines = ",\n".join(json.dumps(row, allow_nan=False) for batch in table.to_batches() for row in batch.to_pylist())
    path.write_text(f"[\n{lines}\n]\n" if lines else "[]\n")


@contextmanager
def _told(store: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise RequestError(f"the store {store} must stay readable; received: {error}") from error
