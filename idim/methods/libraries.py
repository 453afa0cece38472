"""Optional libraries, imported when a method needs them.

Importing ``bitsandbytes`` on some processors makes it ask the package ``kernels``, where that is installed, for
compiled code from a hub. What runs here comes from what was installed, so the question is not let through.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from idim.errors import RequestError

FETCHER = "kernels"
COMPLAINER = "bitsandbytes.backends.cpu.ops"


def peft() -> Any:
    """Return the library ``peft``.

    Raises:
        RequestError: when it is not installed.
    """
    if importlib.util.find_spec("bitsandbytes"):
        _imported("bitsandbytes", extra="qlora")  # peft would import it otherwise, without a guard
    return _imported("peft", extra="hf")


def bitsandbytes() -> Any:
    """Return the library ``bitsandbytes``.

    Raises:
        RequestError: when it is not installed.
    """
    return _imported("bitsandbytes", extra="qlora")


def _imported(name: str, *, extra: str) -> Any:
    if sys.modules.get(name):
        return sys.modules[name]
    try:
        with _nothing_fetched():
            return importlib.import_module(name)
    except ImportError as error:
        raise RequestError(
            f"this method needs the package {name}: pip install 'idim-toolkit[{extra}]'; received: {error}"
        ) from error


@contextmanager
def _nothing_fetched() -> Iterator[None]:
    logger = logging.getLogger(COMPLAINER)
    level, known = logger.level, FETCHER in sys.modules
    logger.setLevel(logging.ERROR)  # it warns that it could not fetch
    if not known:
        sys.modules[FETCHER] = None  # type: ignore[assignment]  # an import of it fails
    try:
        yield
    finally:
        logger.setLevel(level)
        if not known:
            del sys.modules[FETCHER]
