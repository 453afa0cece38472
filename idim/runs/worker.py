"""A worker process: ``python -m idim.runs.worker`` trains specs from stdin and answers on stdout.

One JSON object a line each way; :mod:`idim.runs.messages` says which.

A worker must not outlive its driver: a thread reads stdin all the time, and the end of stdin, which the
operating system gives however the driver ended, ends the process in the middle of a training.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from idim.errors import RequestError
from idim.runs.artifacts import Keep
from idim.runs.engine import attempt
from idim.runs.spec import RunSpec


def main() -> None:
    """Serve until stdin ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print must not mix with answers
    requests: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    while True:
        print(json.dumps(serve(json.loads(requests.get()))), file=answers, flush=True)


def serve(request: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to one request."""
    data = None if request["data"] is None else Path(request["data"])
    try:
        keep = Keep.from_json(request["keep"]) if "keep" in request else None
        outcome = attempt(RunSpec.from_json(request["spec"]), data, keep)
    except RequestError as error:
        return {"refused": str(error)}
    if outcome.result is None:
        return {"failed": outcome.message, "passing": outcome.passing}
    return {"result": outcome.result.to_json()}


def _listen(requests: SimpleQueue[str]) -> None:
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)


if __name__ == "__main__":
    main()
