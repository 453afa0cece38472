"""The node's end of a Ray task: as a worker process, but in the driver's folder and by the driver's versions."""

from __future__ import annotations

import contextlib
import functools
import os
from typing import Any

from threadpoolctl import threadpool_limits

from idim.runs.environment import host, versions
from idim.runs.worker import serve


def serve_on_node(request: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to a request that also holds the driver's versions, folder and variables.

    A node with other versions of what makes the numbers would give other bits under the same key: it refuses.
    """
    own, wanted = versions(), request["versions"]
    if own != wanted:
        name = next(name for name in wanted if own.get(name) != wanted[name])
        return {
            "refused": f"every node must have the driver's {name} {wanted[name]}; received {own.get(name)} on {host()}"
        }
    _settle(request["folder"], tuple(request["variables"].items()))
    return serve(request) | {"host": host()}


@functools.cache
def _settle(folder: str, variables: tuple[tuple[str, str], ...]) -> None:
    """Make names of files mean what they mean to the driver, and give libraries one thread, once a process."""
    os.environ.update(variables)
    with contextlib.suppress(OSError):  # a node without that folder can still serve what names no file
        os.chdir(folder)
    threadpool_limits(1)
