"""What passes between a driver and those who train for it: plain data, the same for pipes and for Ray.

A request is ``{"spec": ..., "data": ...}``, with "keep" where tensors are to be written. Its answer is
``{"result": ...}``, ``{"failed": message, "passing": ...}`` or, when the request itself cannot be served,
``{"refused": message}``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from idim.errors import RequestError
from idim.runs.artifacts import Keep
from idim.runs.result import Outcome, RunResult
from idim.runs.spec import RunSpec


def request_of(spec: RunSpec, data: Path | None, keep: Keep | None = None) -> dict[str, Any]:
    """Return the request to train a spec."""
    request: dict[str, Any] = {"spec": spec.to_json(), "data": None if data is None else str(data)}
    return request if keep is None else request | {"keep": keep.to_json()}


def outcome_of(spec: RunSpec, answer: dict[str, Any]) -> Outcome:
    """Return the outcome that an answer tells.

    Raises:
        RequestError: when the request could not be served.
    """
    host = answer.get("host")
    if "refused" in answer:
        raise RequestError(str(answer["refused"]))
    if "failed" in answer:
        passing = bool(answer.get("passing", False))
        return Outcome(spec=spec, message=str(answer["failed"]), passing=passing, host=host)
    return Outcome(spec=spec, result=RunResult.from_json(cast(dict[str, object], answer["result"])), host=host)
