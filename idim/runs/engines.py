"""The engines by name: what a request may say of them, and which one serves it.

Nothing heavy is imported before one is made, and Ray only where it is asked for.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, get_args

from idim.errors import RequestError, unknown
from idim.runs.cores import usable_cores
from idim.runs.resources import Resources

if TYPE_CHECKING:
    from idim.runs.engine import Engine
    from idim.runs.store import Store

EngineName = Literal["processes", "serial", "ray"]
ADDRESS = re.compile(r"auto|[^\s/]+:[0-9]{1,5}")


class Asked(Protocol):
    """What the requests of all commands say of their engine."""

    @property
    def engine(self) -> EngineName:
        """Its name."""

    @property
    def workers(self) -> int | None:
        """Runs at once, where that is for the request to say."""

    @property
    def address(self) -> str | None:
        """The Ray cluster to join."""

    @property
    def data(self) -> Path | None:
        """The data folder."""


def check(request: Asked) -> None:
    """Refuse options that do not go with the engine.

    Raises:
        RequestError: with what to do instead.
    """
    if request.engine not in get_args(EngineName):
        raise unknown("engine", request.engine, get_args(EngineName))
    if request.workers is not None:
        _check_workers(request, request.workers)
    if request.address is not None:
        _check_address(request.engine, request.address)


def _check_workers(request: Asked, workers: int) -> None:
    if workers < 1:
        raise RequestError(f"workers must be at least 1; received {workers}")
    if request.engine == "serial":
        raise RequestError(f"workers belong to the other engines; received workers {workers} with engine 'serial'")
    if request.address is not None:
        raise RequestError(
            f"a cluster says by itself how many runs it takes at once; received workers {workers} "
            f"with address {request.address!r}: leave one of them out"
        )


def _check_address(engine: EngineName, address: str) -> None:
    if engine != "ray":
        raise RequestError(f"address belongs to the engine 'ray'; received address {address!r} with engine {engine!r}")
    if not ADDRESS.fullmatch(address):
        raise RequestError(f"address must be HOST:PORT or auto, on a node of the cluster; received {address!r}")


def worker_count(request: Asked) -> int:
    """Return the number of runs at once: as asked, else one for each usable core; 1 where a cluster will say."""
    if request.engine == "serial" or request.address is not None:
        return 1
    return usable_cores() if request.workers is None else request.workers


def create(request: Asked, store: Store, resources: Mapping[str, Resources] | None = None) -> Engine:
    """Return the engine of a request; nothing is started yet.

    Args:
        request: what was asked.
        store: where outcomes are looked up and kept.
        resources: what runs reserve on a Ray cluster, by key, where it is not the usual.

    Raises:
        RequestError: for an engine whose library is missing, with how to install it.
    """
    if request.engine == "serial":
        from idim.runs.serial import Serial

        return Serial(store, data=request.data)
    if request.engine == "processes":
        from idim.runs.processes import Processes

        return Processes(store, data=request.data, workers=worker_count(request))
    if importlib.util.find_spec("ray") is None:
        raise RequestError(
            "engine 'ray' needs the library ray; received an environment without it: "
            "pip install 'idim-toolkit[ray]', or take engine 'processes'"
        )
    from idim.runs.ray_engine import Ray

    return Ray(
        store, data=request.data, workers=worker_count(request), address=request.address, resources=resources or {}
    )
