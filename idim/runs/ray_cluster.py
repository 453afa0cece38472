"""A connection to Ray: the only place that knows its library.

Without an address a cluster of this machine alone is started and ends with the engine: no dashboard, no usage
statistics, and a token of its own that no other process of the machine knows. With an address the driver joins a
cluster, on one of whose nodes it must run; its token is read as Ray reads it (``RAY_AUTH_MODE=token``).

References: Moritz et al. 2018, "Ray: A Distributed Framework for Emerging AI Applications", arXiv:1712.05889;
Ray's page on token authentication, for ``RAY_AUTH_MODE`` and ``RAY_AUTH_TOKEN``.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from idim.errors import RequestError
from idim.runs.child import environment
from idim.runs.ray_node import serve_on_node
from idim.runs.resources import Resources

SECONDS_TO_REACH = 10.0
OBJECT_STORE = 80 << 20  # bytes: requests and answers are a few kilobytes
QUIET = {"log_to_driver": False, "logging_level": logging.ERROR}
JOIN = "import logging, sys, ray; ray.init(address=sys.argv[1], log_to_driver=False, logging_level=logging.ERROR)"


class Cluster:
    """Ray's nodes, which serve requests. A session that this process already has is used, and left as it is.

    Args:
        address: ``HOST:PORT`` or ``auto`` of a cluster to join; None starts one.
        workers: cores of a cluster that is started.

    Raises:
        RequestError: when the cluster cannot be joined within ten seconds, or Ray does not start.
    """

    def __init__(self, address: str | None, workers: int) -> None:
        if address is not None:
            _reach(address, SECONDS_TO_REACH)
        with _variables(_local_variables() if address is None else {"RAY_USAGE_STATS_ENABLED": "0"}):
            self._ray = _library()
            self._opened = not self._ray.is_initialized()
            if self._opened:
                self._open(address, workers)
        self._serve = self._ray.remote(max_retries=0, max_calls=0)(serve_on_node)

    def _open(self, address: str | None, workers: int) -> None:
        own = {"num_cpus": workers, "include_dashboard": False, "object_store_memory": OBJECT_STORE}
        try:
            self._ray.init(address=address or "local", **(own if address is None else {}), **QUIET)
        except Exception as error:
            raise RequestError(f"{_wanted(address)}; received: {_line(str(error))}") from error

    def nodes(self) -> list[tuple[float, float]]:
        """Return the cores and GPUs of every node that is alive."""
        alive = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return [(shares.get("CPU", 0.0), shares.get("GPU", 0.0)) for shares in alive]

    def room(self, resources: Resources) -> int:
        """Return how many runs the nodes take at once."""
        return sum(resources.fits(*node) for node in self.nodes())

    def check(self, wanted: Iterable[Resources]) -> None:
        """Refuse what no node can ever hold: it would wait for ever.

        Raises:
            RequestError: with the nodes there are.
        """
        for resources in set(wanted):
            if not self.room(resources):
                there = ", ".join(sorted({f"cpus {cpus:g} and gpus {gpus:g}" for cpus, gpus in self.nodes()}))
                raise RequestError(f"a run must fit on one node; received {resources} a run, and nodes of {there}")

    def submit(self, request: Mapping[str, Any], resources: Resources) -> Any:
        """Hand a request to the nodes; return what its answer is known by."""
        return self._serve.options(num_cpus=resources.cpus, num_gpus=resources.gpus).remote(request)

    def landed(self, flying: Iterable[Any]) -> list[Any]:
        """Wait; return the requests that were answered or lost."""
        refs = list(flying)
        self._ray.wait(refs, num_returns=1)
        ready: list[Any] = self._ray.wait(refs, num_returns=len(refs), timeout=0)[0]
        return ready

    def answer(self, ref: Any) -> dict[str, Any] | str:
        """Return an answer, or of what its worker or node was lost.

        Raises:
            RequestError: when a node could not even begin, as without this package.
        """
        try:
            answer: dict[str, Any] = self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as error:
            cause = _line(str(getattr(error, "cause", None) or error))
            raise RequestError(
                f"every node must serve requests with the driver's packages; received: {cause}"
            ) from error
        except self._ray.exceptions.RayError as error:
            return type(error).__name__
        return answer

    def close(self, flying: Sequence[Any]) -> None:
        """End the requests that are still under way, and the session unless it was there before."""
        for ref in flying:
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.cancel(ref, force=True)
        if self._opened:
            self._ray.shutdown()


def _library() -> Any:
    """Import Ray in the variables that hold now; one that was imported before read them then, and is told again."""
    known = "ray" in sys.modules
    ray: Any = importlib.import_module("ray")
    if known and not ray.is_initialized():
        core: Any = importlib.import_module("ray._raylet")
        with contextlib.suppress(AttributeError):  # inner parts of Ray: where they are gone, Ray reads late by itself
            core.Config.initialize("")
            core.AuthenticationTokenLoader.instance().reset_cache()
    return ray


def _reach(address: str, seconds: float) -> None:
    """Prove that a cluster can be joined: Ray itself would wait for minutes and then end the process.

    Raises:
        RequestError: when it cannot, by then.
    """
    until = time.monotonic() + seconds
    if address != "auto":
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=seconds).close()
        except (OSError, OverflowError) as error:
            raise RequestError(f"{_wanted(address)}; received: {error}") from error
    try:
        left = max(1.0, until - time.monotonic())
        subprocess.run([sys.executable, "-c", JOIN, address], capture_output=True, text=True, timeout=left, check=True)
    except subprocess.TimeoutExpired as error:
        raise RequestError(
            f"{_wanted(address)}; received no answer of Ray's within {seconds:g} s, as when its token is another"
        ) from error
    except subprocess.CalledProcessError as error:
        raise RequestError(f"{_wanted(address)}; received: {_last_line(error.stderr)}") from error


def _wanted(address: str | None) -> str:
    if address is None:
        return "Ray must start on this machine"
    return f"the Ray cluster {address} must run, and this machine be one of its nodes"


@functools.cache
def _token() -> str:
    """Return the token of this process's clusters: Ray reads it once a process."""
    return secrets.token_hex(32)


def _local_variables() -> dict[str, str]:
    """Return what a cluster of this machine alone starts with: a worker's environment, a token, no statistics."""
    own = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
    if not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ):
        own["RAY_AUTH_TOKEN"] = _token()
    wanted = environment() | own
    return {name: value for name, value in wanted.items() if os.environ.get(name) != value}


@contextlib.contextmanager
def _variables(changes: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables inside, and put back what was there."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return _line(lines[-1]) if lines else "no reason"


def _line(text: str) -> str:
    return " ".join(text.split())[:300]
