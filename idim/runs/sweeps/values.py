"""The values of one key: a single one, a list, a range or a geometric series.

====================================  =====================================================================
``0.02``                              one value
``[10, 30, 100]``                     these; elements may be ranges and series themselves
``{range: 5}``, ``{range: [2, 5]}``   0 1 2 3 4; 2 3 4, as Python's ``range``, a third number is the step
``{log: [10, 1000, 7]}``              7 values from 10 to 1000 with one ratio, rounded for whole numbers
====================================  =====================================================================

Numbers may be written as ``1e-3``, which plain YAML reads as text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from idim.errors import RequestError, unknown
from idim.runs.sweeps.document import Entry, shown

MOST = 1_000_000
"""Runs of one sweep, and values of one key."""

FORMS = ("range", "log")
Read = Callable[[Any], Any]
"""From a value of the file to a value of a run; raises RequestError with the constraint and the value."""


class Term(float):
    """A number of a geometric series."""


@dataclass(frozen=True)
class Rate:
    """A learning rate as a function of d: constant / d**power, the power being 0 or 1/2."""

    constant: float
    power: float

    def at(self, d: int | None) -> float:
        """Return the rate at d; d is None in full training.

        Raises:
            RequestError: in full training, for a rate that depends on d.
        """
        if d is None:
            if self.power:
                raise RequestError(
                    f"lr of full training must be a number; received {self.constant:g}/sqrt(d), and there is no d: "
                    "give full training a grid of its own"
                )
            return self.constant
        return float(self.constant * d**-self.power)


def values(entry: Entry, read: Read) -> tuple[Any, ...]:
    """Return the values of an entry, each once, in the order they are written.

    Raises:
        RequestError: with the place, for none or too many, an unknown form, or a value that ``read`` refuses.
    """
    try:
        found = tuple(dict.fromkeys(read(value) for value in _each(entry.value)))
        if not found:
            raise RequestError(f"a key needs at least one value; received {shown(entry.value)}")
    except RequestError as error:
        raise RequestError(f"{entry.where}: {error}") from error
    return found


def _each(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for element in value:
            if isinstance(element, list):
                raise RequestError(
                    f"a list of values holds values, ranges and series; received the list {shown(element)}"
                )
            yield from _each(element)
    elif isinstance(value, dict):
        yield from _form(value)
    else:
        yield value


def _form(value: dict[str, Any]) -> Iterator[Any]:
    if len(value) != 1:
        raise RequestError(f"values are {{range: ...}} or {{log: ...}}; received {shown(value)}")
    ((name, content),) = value.items()
    if name not in FORMS:
        raise unknown("form of values", name, FORMS)
    return _range(content) if name == "range" else _series(content)


def _range(content: Any) -> Iterator[int]:
    numbers = content if isinstance(content, list) else [content]
    if not 1 <= len(numbers) <= 3 or not all(_is_whole(n) for n in numbers) or (len(numbers) == 3 and not numbers[2]):
        raise RequestError(f"range takes STOP, [START, STOP] or [START, STOP, STEP], whole; received {shown(content)}")
    found = range(*numbers)
    _bounded(len(found) if abs(numbers[0]) < 2**62 and abs(numbers[-1]) < 2**62 else MOST + 1)
    return iter(found)


def _series(content: Any) -> Iterator[Term]:
    problem = RequestError(
        f"log takes [FIRST, LAST, COUNT], two numbers above 0 and how many; received {shown(content)}"
    )
    if not (isinstance(content, list) and len(content) == 3 and _is_whole(content[2])):
        raise problem
    first, last, count = number(content[0]), number(content[1]), content[2]
    if not (first > 0 and last > 0 and 0 < last / first < math.inf and count >= (1 if first == last else 2)):
        raise problem
    _bounded(count)
    return _geometric(first, last, count)


def _geometric(first: float, last: float, count: int) -> Iterator[Term]:
    """Yield the series; its ends are exact."""
    for i in range(count):
        share = i / (count - 1) if count > 1 else 0.0
        yield Term(last if share == 1 else first * (last / first) ** share)


def _bounded(count: int) -> None:
    if count > MOST:
        raise RequestError(f"a key takes at most {MOST:,} values; received more")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# -- what a value must be ---------------------------------------------------------------------------


def text(value: Any) -> str:
    """Read a word."""
    if not isinstance(value, str):
        raise RequestError(f"the value must be a word; received {shown(value)}")
    return value


def truth(value: Any) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise RequestError(f"the value must be true or false; received {shown(value)}")
    return value


def number(value: Any) -> float:
    """Read a finite number, also one such as ``1e-3``."""
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise RequestError(f"the value must be a finite number; received {shown(value)}")
    return found


def whole(value: Any) -> int:
    """Read a whole number; a term of a series is rounded."""
    if _is_whole(value):
        return int(value)
    found = math.nan if isinstance(value, bool) else number(value)
    if not (isinstance(value, Term) or found.is_integer()):
        raise RequestError(f"the value must be a whole number; received {shown(value)}")
    return round(found)


def rate(value: Any) -> Rate:
    """Read a learning rate: a number, or ``C/sqrt(d)``."""
    constant = value.removesuffix("/sqrt(d)") if isinstance(value, str) else value
    try:
        return Rate(number(constant), 0.0 if constant == value else 0.5)
    except RequestError:
        raise RequestError(f"lr must be a number, or one such as 2.4/sqrt(d); received {shown(value)}") from None


def optional(read: Read) -> Read:
    """Return the same reader that also takes null."""
    return lambda value: None if value is None else read(value)
