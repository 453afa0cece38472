"""Rows that two tasks share: a task that holds rows of another is not unseen to what was learned from that one.

Texts are compared without regard to case, punctuation, spaces and the split they are in; a pair of texts is one row,
and a text alone is no row of a task of pairs. Numbers are compared bit by bit as a network gets them, so images that
two tasks scale differently are not found. Labels are left out: the same rows under other labels are the same rows.

Some rows are anybody's ("yes", "how do you make dumplings"): of the collections that are known here, unrelated ones
share up to 0.04 % of the smaller one, related ones 26 % and more. Up to ACCIDENT is no overlap.
"""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from idim.errors import RequestError
from idim.tasks.task import Split, Task
from idim.tasks.texts import Texts, digest

ACCIDENT = 1e-3  # share of the smaller task
BETWEEN = re.compile(r"[\W_]+")


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """How many different rows two tasks share.

    Attributes:
        a, b: names of the tasks.
        count: different rows that are in both, over all splits.
        share: ``count`` over the different rows of the smaller task.
        example: one of them, in words where it is a text.
    """

    a: str
    b: str
    count: int
    share: float
    example: str = ""

    @property
    def accidental(self) -> bool:
        """Whether it is no more than unrelated tasks share."""
        return self.share <= ACCIDENT

    def __str__(self) -> str:
        such = f", such as {self.example!r}" if self.example else ""
        return f"{self.a} and {self.b}, which share {self.count:,} rows ({self.share:.1%} of the smaller){such}"


def shared_rows(a: Task, b: Task) -> Overlap:
    """Return the rows that two tasks share, over all splits of both (see the module)."""
    ours, theirs = _rows(a), _rows(b)
    both = ours.keys() & theirs.keys()
    example = _text(a, ours[min(both)]) if both else ""
    share = len(both) / min(len(ours), len(theirs))
    return Overlap(a=a.name, b=b.name, count=len(both), share=share, example=example)


def check_unseen(unseen: Sequence[Task], seen: Sequence[Task]) -> None:
    """Refuse tasks as unseen that share more rows with what was learned from than accident would have it.

    Raises:
        RequestError: naming the first two such tasks, and how many rows they share.
    """
    for task in unseen:
        for other in seen:
            if not (found := shared_rows(task, other)).accidental:
                raise RequestError(f"an unseen task must share no rows with those learned from; received {found}")


def normal(text: str) -> str:
    """Return a text as it is compared.

    >>> normal("A  fine-looking FILM .") == normal("a fine looking film")
    True
    """
    return BETWEEN.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


@functools.lru_cache(maxsize=32)
def _rows(task: Task) -> dict[int, tuple[int, int]]:
    """Return the hash of every row, and where the first row of it is: split and number; rows of no words are none."""
    found: dict[int, tuple[int, int]] = {}
    for number, split in enumerate(_splits(task)):
        for row, key in enumerate(_keys(split)):
            if key is not None:
                found.setdefault(key, (number, row))
    return found


def _splits(task: Task) -> tuple[Split, Split, Split]:
    return task.train, task.selection, task.report


def _keys(split: Split) -> Iterator[int | None]:
    """Yield the hash of each row; None for one without words."""
    if isinstance(split.inputs, Texts):
        second = split.inputs.second or ("",) * len(split)
        for pair in zip(split.inputs.first, second, strict=True):
            words = tuple(map(normal, pair))
            yield digest("\x1f".join(words)) if any(words) else None
        return
    yield from map(_bits, split.inputs)


def _bits(row: Tensor) -> int:
    content = f"{row.dtype}{tuple(row.shape)}".encode() + row.contiguous().numpy().tobytes()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def _text(task: Task, place: tuple[int, int]) -> str:
    inputs = _splits(task)[place[0]].inputs
    return inputs.first[place[1]][:60] if isinstance(inputs, Texts) else ""
