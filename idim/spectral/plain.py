"""Frozen records to plain JSON data and back, exactly: by their annotations, without a table of kinds."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

Record = TypeVar("Record")


def to_plain(record: Any) -> dict[str, Any]:
    """Return a dataclass as dicts, lists, strings, numbers and None."""
    return {field.name: _down(getattr(record, field.name)) for field in dataclasses.fields(record)}


def from_plain(kind: type[Record], data: Mapping[str, Any]) -> Record:
    """Return the record that ``data`` was made from; a missing key is an error, a key too many is not read."""
    hints = typing.get_type_hints(kind)
    return kind(**{field.name: _up(hints[field.name], data[field.name]) for field in dataclasses.fields(kind)})  # type: ignore[arg-type]


def _down(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_plain(value)
    return [_down(item) for item in value] if isinstance(value, tuple) else value


def _up(hint: Any, value: Any) -> Any:
    if value is None:
        return None
    if typing.get_origin(hint) is types.UnionType:
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    if dataclasses.is_dataclass(hint):
        return from_plain(typing.cast("type[Any]", hint), value)
    if typing.get_origin(hint) is tuple:
        return _tuple(typing.get_args(hint), value)
    return value


def _tuple(hints: tuple[Any, ...], values: list[Any]) -> tuple[Any, ...]:
    if hints[-1:] == (Ellipsis,):
        return tuple(_up(hints[0], value) for value in values)
    return tuple(_up(hint, value) for hint, value in zip(hints, values, strict=True))
