"""The driver's end of a worker process (the other end is :mod:`idim.runs.worker`)."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, cast

from idim.errors import RequestError
from idim.runs.artifacts import Keep
from idim.runs.messages import outcome_of, request_of
from idim.runs.result import Outcome
from idim.runs.spec import RunSpec

WORKER = ("-P", "-m", "idim.runs.worker")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


class Child:
    """One worker process; it holds one spec at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            start_new_session=True,  # Ctrl-C reaches the driver alone, and the driver stops its workers
        )
        self.answers = cast(IO[bytes], self._process.stdout)

    def give(self, spec: RunSpec, data: Path | None, keep: Keep | None = None) -> None:
        """Send a spec; a worker that is already dead is found out when its answer is taken."""
        requests = cast(IO[bytes], self._process.stdin)
        with contextlib.suppress(BrokenPipeError):
            requests.write(json.dumps(request_of(spec, data, keep)).encode() + b"\n")
            requests.flush()

    def take(self, spec: RunSpec) -> Outcome | None:
        """Wait for the answer to ``spec``; None where a signal ended the worker before it answered.

        Raises:
            RequestError: when the request cannot be served, or the worker ended by itself.
        """
        line = self.answers.readline()
        if line.endswith(b"\n"):
            return outcome_of(spec, json.loads(line))
        status = self._process.wait()
        if status >= 0:
            raise RequestError(
                f"a worker process must stay up; it ended by itself with status {status}, its messages are above"
            )
        return None

    def stop(self) -> str:
        """End the process, in the middle of a training too; return what it ended of."""
        self._process.kill()
        status = self._process.wait()
        for pipe in (self._process.stdin, self.answers):
            with contextlib.suppress(OSError):
                cast(IO[bytes], pipe).close()
        return signal.Signals(-status).name if status < 0 else f"status {status}"


def environment() -> dict[str, str]:
    """Return the driver's environment with one thread a library, and the driver's import path."""
    path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
    return os.environ | dict.fromkeys(THREAD_VARIABLES, "1") | {"PYTHONPATH": path}
