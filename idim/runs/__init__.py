"""Runs: a training as a value, its result, where results are kept and who computes them."""

from idim.runs.artifacts import Keep
from idim.runs.engine import Engine
from idim.runs.errors import TrainingFailed
from idim.runs.processes import Processes
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
    "RunResult",
    "RunSpec",
    "Serial",
    "Store",
    "TrainingFailed",
    "run",
]
