"""Errors that a user can mend.

A request that cannot be served raises :class:`RequestError` with one line that names the
constraint, the value received and, where there is one, the way out. The command line prints
that line and exits with status 2; in Python it is an ordinary ``ValueError``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RequestError(ValueError):
    """The request cannot be served: one line with the constraint and the value received."""


def unknown(what: str, name: str, known: Iterable[str]) -> RequestError:
    """Return the error for a name that is not in a table, with the nearest known name.

    >>> unknown("projection", "hadamrd", ["dense", "hadamard"])
    RequestError("unknown projection 'hadamrd'; did you mean 'hadamard'? Known: dense, hadamard")
    """
    choices = sorted(known)
    near = difflib.get_close_matches(name, choices, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    return RequestError(f"unknown {what} {name!r}{hint} Known: {', '.join(choices)}")
