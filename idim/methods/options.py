"""Checks of options, with one wording for what they refuse."""

from __future__ import annotations

import math

from idim.errors import RequestError


def at_least(method: str, least: int, **options: int) -> None:
    """Refuse whole numbers below ``least``.

    Raises:
        RequestError: naming the option and its value.
    """
    for option, value in options.items():
        if value < least:
            raise RequestError(f"option {option!r} of method {method!r} must be at least {least}; received {value}")


def positive(method: str, **options: float) -> None:
    """Refuse numbers that are not finite and above 0.

    Raises:
        RequestError: naming the option and its value.
    """
    for option, value in options.items():
        if not (math.isfinite(value) and value > 0):
            raise RequestError(f"option {option!r} of method {method!r} must be a number above 0; received {value}")


def share(method: str, **options: float) -> None:
    """Refuse numbers outside [0, 1).

    Raises:
        RequestError: naming the option and its value.
    """
    for option, value in options.items():
        if not 0 <= value < 1:
            raise RequestError(
                f"option {option!r} of method {method!r} must be at least 0 and below 1; received {value}"
            )
