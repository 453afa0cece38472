"""Which methods a request means, in the order of the table."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from idim import methods
from idim.delta_tuning.request import MethodsRequest
from idim.errors import RequestError

VARIANTS = ("adapter:kind=pfeiffer", "adapter:kind=parallel", "diffpruning:structured=false")
"""Options that make a row of their own where all methods are asked for."""


def chosen(request: MethodsRequest) -> tuple[str, ...]:
    """Return the canonical names of the methods asked for, each once: groups together, else in the order asked.

    Raises:
        RequestError: for an unknown method, or when none is left.
    """
    names = named(request)
    if not names and request.only is None and request.combine is None:
        names = [*methods.METHODS, *VARIANTS]
    if not names:
        raise RequestError(f"only must name at least one method; received {request.only!r}: leave it out for all")
    found = dict.fromkeys(methods.canonical(name) for name in names)
    return tuple(sorted(found, key=lambda name: _place(name)))


def named(request: MethodsRequest) -> list[str]:
    """Return the methods that a request names itself, as written; none where it asks for all.

    Raises:
        RequestError: for methods to combine that are fewer than two.
    """
    return [*split(request.only or ""), *combinations(request.combine)]


def split(names: str) -> list[str]:
    """Return comma-separated methods; a comma also stands between the options of one.

    >>> split("full,lora:rank=4,alpha=8,adapter+bitfit")
    ['full', 'lora:rank=4,alpha=8', 'adapter+bitfit']
    """
    found: list[str] = []
    for part in filter(None, (word.strip() for word in names.split(","))):
        if found and "=" in part and ":" not in part:
            found[-1] += f",{part}"
        else:
            found.append(part)
    return found


def combinations(names: str | None) -> Iterable[str]:
    """Return methods joined by ``+`` alone, in pairs, and so on up to all of them.

    >>> list(combinations("a+b+c"))
    ['a', 'b', 'c', 'a+b', 'a+c', 'b+c', 'a+b+c']

    Raises:
        RequestError: for fewer than two.
    """
    if names is None:
        return []
    parts = [part.strip() for part in names.split("+")]
    if len(parts) < 2 or not all(parts):
        raise RequestError(f"combine needs two methods or more, such as adapter+bitfit+prompt; received {names!r}")
    groups = (itertools.combinations(parts, n) for n in range(1, len(parts) + 1))
    return ["+".join(group) for group in itertools.chain.from_iterable(groups)]


def _place(name: str) -> tuple[bool, int]:
    """Return where a method stands: single ones by group, then combinations."""
    order = ("full", "addition", "specification", "reparameterisation")
    return "+" in name, order.index(methods.parse(name).group)
