"""Where a run was computed: kept beside its result, never part of its key."""

from __future__ import annotations

import functools
import platform
from importlib import metadata

import idim
from idim.runs.spec import RUN_VERSION

LIBRARIES = ("torch", "numpy", "numba")


@functools.cache
def host() -> str:
    """Return the name of this machine."""
    return platform.node()


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions that a result was made with."""
    libraries = {name: metadata.version(name) for name in LIBRARIES}
    return {"idim": idim.__version__, "run": str(RUN_VERSION), "python": platform.python_version()} | libraries
