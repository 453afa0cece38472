"""``hf:NAME[/CONFIG]``: a data set of the hub, or a local folder, through ``datasets``.

Columns are found by the names usual there, or given as for ``csv:``, such as ``hf:owner/set,text=review``.
Code of a repository is never run.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from idim import hub
from idim.errors import RequestError
from idim.tasks import tables
from idim.tasks.labels import checked_metric, text_task
from idim.tasks.task import Task
from idim.tasks.texts import Part, Table, split

FORM = "hf:NAME[/CONFIG][,text=COLUMN][,text2=COLUMN][,label=COLUMN][,metric=NAME]"
PAIRS = (
    ("text", None), ("sentence", None), ("sentence1", "sentence2"), ("premise", "hypothesis"),
    ("question", "sentence"), ("question1", "question2"), ("content", None),
)  # fmt: skip


@functools.lru_cache(maxsize=2)
def load(argument: str) -> Task:
    """Return the task of what follows ``hf:``.

    Raises:
        RequestError: without the package, when the set cannot be had, or when it has other columns.
    """
    place, options = tables.parse(argument, FORM, tables.OPTIONS)
    metric = checked_metric(options.pop("metric")) if "metric" in options else None
    name = f"hf:{argument}"
    return text_task(name, split(tables.labelled(read(place, options), name), f"task {name!r}"), metric=metric)


def read(place: str, options: Mapping[str, str | None]) -> dict[Part, Table]:
    """Return the splits of a data set; ``options`` names its columns, a label of None has none.

    Raises:
        RequestError: as :func:`load`.
    """
    frames = {part: rows.to_pandas() for word, part in tables.PARTS.items() if (rows := _splits(place).get(word))}
    if not frames:
        raise RequestError(f"task 'hf:{place}' must have a split named train; received {', '.join(_splits(place))}")
    columns = _columns(list(next(iter(frames.values())).columns), options)
    return {part: tables.from_frame(frame, columns, f"{place} {part}") for part, frame in frames.items()}


def _columns(names: list[str], options: Mapping[str, str | None]) -> tables.Columns:
    """Return the columns asked for, else the first usual ones that there are."""
    if "text" in options:
        return tables.Columns(**options)  # type: ignore[arg-type]
    for text, text2 in PAIRS:
        if text in names and (text2 is None or text2 in names):
            return tables.Columns(**{"text": text, "text2": text2} | dict(options))  # type: ignore[arg-type]
    return tables.Columns(**options)  # type: ignore[arg-type]


@functools.lru_cache(maxsize=2)
def _splits(place: str) -> dict[str, Any]:
    try:
        import datasets
    except ImportError as error:
        raise RequestError(
            f"task 'hf:{place}' needs the package datasets, which is not installed: pip install 'idim-toolkit[hf]'"
        ) from error
    if not Path(place).is_dir():
        hub.prepare("datasets")
    reasons = []
    for name, config in _readings(place):
        try:
            return dict(datasets.load_dataset(name, config))
        except Exception as error:
            reasons.append(f"{type(error).__name__}: {' '.join(str(error).split())}")
    raise RequestError(
        f"task 'hf:NAME[/CONFIG]' needs a data set that can be had; received {place!r} ({reasons[0][:200]}): "
        "without the network, give csv:FOLDER"
    )


def _readings(place: str) -> list[tuple[str, str | None]]:
    """Return the ways to read a name: as a whole, and with the last part as a configuration."""
    whole: list[tuple[str, str | None]] = [(place, None)]
    if Path(place).is_dir() or "/" not in place:
        return whole
    name, _, config = place.rpartition("/")
    return [*whole, (name, config)] if place.count("/") == 1 else [(name, config), *whole]
