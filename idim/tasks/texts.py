"""Rows of text, and how a table of them becomes a task.

Texts stay text here: the tokenizer belongs to the model. The splits of a table are

- train, dev and test: dev is the selection split, test the report split;
- train and one of the two: that one is the report split, and a tenth of train, chosen by the hash of the
  text, is the selection split;
- one table: a fifth of it is the report split and a tenth the selection split, by the same hash, after all
  but the first of equal rows are dropped (they would otherwise stand on both sides).

A hash of the text itself keeps equal rows on one side and does not depend on their order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from idim.errors import RequestError

Part = Literal["train", "dev", "test"]
REPORT, SELECTION = (0, 1), (2,)  # tenths of the rows
Strings = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Texts:
    """Rows of text: one sentence each, or two.

    Attributes:
        first: the sentence of each row.
        second: the other sentence of each row, where rows are pairs.
    """

    first: tuple[str, ...]
    second: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.first)

    def take(self, rows: Sequence[int]) -> Texts:
        """Return some rows, in the order asked for."""
        second = None if self.second is None else tuple(self.second[i] for i in rows)
        return Texts(first=tuple(self.first[i] for i in rows), second=second)

    def joined(self, other: Texts) -> Texts:
        """Return these rows, then the other ones."""
        second = None if self.second is None or other.second is None else self.second + other.second
        return Texts(first=self.first + other.first, second=second)

    def lines(self) -> list[str]:
        """Return one string a row, different for different rows."""
        if self.second is None:
            return list(self.first)
        return [f"{one}\x1f{two}" for one, two in zip(self.first, self.second, strict=True)]


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """Rows as they are in a file: texts, and one label each, as text."""

    texts: Texts
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Sequence[int]) -> Table:
        """Return some rows, in the order asked for."""
        return Table(texts=self.texts.take(rows), labels=tuple(self.labels[i] for i in rows))

    def bytes(self) -> Strings:
        """Return all of it as bytes: what is hashed into a fingerprint."""
        rows = zip(self.texts.lines(), self.labels, strict=True)
        return np.frombuffer("\x1e".join(f"{line}\x1d{label}" for line, label in rows).encode(), dtype=np.uint8)


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """The three splits of a text task, before their labels are numbers."""

    train: Table
    selection: Table
    report: Table

    def tables(self) -> tuple[Table, Table, Table]:
        """Return them in the order train, selection, report."""
        return self.train, self.selection, self.report


def split(tables: Mapping[Part, Table], place: str) -> Parts:
    """Return the splits of the tables that there are (see the module).

    Raises:
        RequestError: without a train table, or when a split would be empty.
    """
    if "train" not in tables:
        raise RequestError(f"{place} must have a train split; received {', '.join(tables) or 'none'}")
    parts = _parts(tables["train"], tables.get("dev"), tables.get("test"))
    if not all(len(table) for table in parts.tables()):
        sizes = ", ".join(str(len(table)) for table in parts.tables())
        raise RequestError(f"{place} must give rows to train, selection and report; received {sizes} rows")
    return parts


def _parts(train: Table, dev: Table | None, test: Table | None) -> Parts:
    if dev is not None and test is not None:
        return Parts(train=train, selection=dev, report=test)
    report = dev if test is None else test
    rows = range(len(train)) if report is not None else _first_of_equals(train)
    tenths = {row: tenth(line) for row, line in enumerate(train.texts.lines())}
    selection = [row for row in rows if tenths[row] in SELECTION]
    if report is not None:
        kept = [row for row in rows if tenths[row] not in SELECTION]
        return Parts(train=train.take(kept), selection=train.take(selection), report=report)
    kept = [row for row in rows if tenths[row] not in SELECTION + REPORT]
    held = [row for row in rows if tenths[row] in REPORT]
    return Parts(train=train.take(kept), selection=train.take(selection), report=train.take(held))


def tenth(line: str) -> int:
    """Return which tenth of the rows a text belongs to, 0 to 9, by its hash."""
    return digest(line) % 10


def digest(line: str) -> int:
    """Return the hash of a text: 64 bits."""
    return int.from_bytes(hashlib.blake2b(line.encode(), digest_size=8).digest(), "little")


def _first_of_equals(table: Table) -> list[int]:
    """Return the first row of every text, where case and spaces make no difference."""
    first: dict[str, int] = {}
    for row, line in enumerate(table.texts.lines()):
        first.setdefault(" ".join(line.casefold().split()), row)
    return sorted(first.values())
