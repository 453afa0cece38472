"""Runs: a training as a value, its result, where results are kept and who computes them.

Names are imported when they are first used, so that a look at a store does not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from idim.runs.artifacts import Keep
    from idim.runs.engine import Engine
    from idim.runs.errors import TrainingFailed
    from idim.runs.processes import Processes
    from idim.runs.ray_engine import Ray
    from idim.runs.resources import Resources
    from idim.runs.result import Outcome, RunResult
    from idim.runs.serial import Serial
    from idim.runs.spec import RUN_VERSION, RunSpec
    from idim.runs.store import Store
    from idim.runs.train import run

__all__ = [
    "RUN_VERSION",
    "Engine",
    "Keep",
    "Outcome",
    "Processes",
    "Ray",
    "Resources",
    "RunResult",
    "RunSpec",
    "Serial",
    "Store",
    "TrainingFailed",
    "run",
]

_HOMES = {
    "RUN_VERSION": "idim.runs.spec",
    "Engine": "idim.runs.engine",
    "Keep": "idim.runs.artifacts",
    "Outcome": "idim.runs.result",
    "Processes": "idim.runs.processes",
    "Ray": "idim.runs.ray_engine",
    "Resources": "idim.runs.resources",
    "RunResult": "idim.runs.result",
    "RunSpec": "idim.runs.spec",
    "Serial": "idim.runs.serial",
    "Store": "idim.runs.store",
    "TrainingFailed": "idim.runs.errors",
    "run": "idim.runs.train",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'idim.runs' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
