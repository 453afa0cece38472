"""Options as words: ``rank=4,alpha=8`` behind a method's name becomes its fields.

Methods write themselves back in one way only (:meth:`idim.methods.base.Method.written`): options at their default are
left out, the others come in the order of the fields. Equal methods have equal names, and their runs are found again.
"""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from idim.errors import RequestError, unknown
from idim.methods.base import Method

WORDS = {"true": True, "false": False}


def construct(cls: type[Method], options: str) -> Method:
    """Return the method of a class with the options of a text such as ``rank=4,alpha=8``.

    Raises:
        RequestError: for an unknown option, or a value that it cannot have.
    """
    types = option_types(cls)
    values: dict[str, Any] = {}
    for part in options.split(",") if options else ():
        option, equals, value = part.partition("=")
        if option not in types:
            raise unknown(f"option of method {cls.name!r}", option, types)
        if not equals or option in values:
            raise RequestError(
                f"options of method {cls.name!r} are given once each, as OPTION=VALUE; received {part!r}"
            )
        values[option] = _value(cls, option, types[option], value)
    return cls(**values)


def option_types(cls: type[Method]) -> dict[str, type]:
    """Return the options of a method, each with its type, in their order."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _value(cls: type[Method], option: str, kind: type, text: str) -> Any:
    try:
        return WORDS[text] if kind is bool else kind(text) if kind in (int, float) else text
    except (ValueError, KeyError):
        wanted = {int: "a whole number", float: "a number", bool: "true or false"}[kind]
        raise RequestError(f"option {option!r} of method {cls.name!r} must be {wanted}; received {text!r}") from None
