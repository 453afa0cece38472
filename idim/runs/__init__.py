"""Runs: a training as a value, its result, where results are kept and who computes them."""

from idim.runs.errors import TrainingFailed
from idim.runs.result import Outcome, RunResult
from idim.runs.spec import RUN_VERSION, RunSpec
from idim.runs.train import run

__all__ = ["RUN_VERSION", "Outcome", "RunResult", "RunSpec", "TrainingFailed", "run"]
