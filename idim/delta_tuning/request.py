"""What a user asks of ``idim methods``, checked before anything heavy is imported.

One frozen dataclass serves Python and the command line; its field docstrings are the help texts of
``idim methods --help``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from idim.errors import RequestError
from idim.files import paths_from_text
from idim.runs import engines
from idim.runs.engines import EngineName

MOST = 10**9  # of any count
MOST_RATES, MOST_SEEDS = 50, 10_000


@dataclass(frozen=True, kw_only=True)
class MethodsRequest:
    """Tune a network in every way there is, on the same work, and put the ways side by side."""

    task: str = "digits"
    """What to learn: a name as for measure (digits, mnist, trec, rotten_tomatoes, csv:PATH, hf:NAME, …)."""
    model: str | None = None
    """What learns it: a name as for measure (minilm, resnet20, a folder, a hub name, …). Default: the task's own."""
    only: str | None = None
    """Methods, comma-separated, each with its options: full,lora:rank=4,alpha=8,adapter+bitfit. Default: all."""
    combine: str | None = None
    """Methods to try alone and together in every way: adapter+bitfit+prompt gives seven rows."""
    transfer_from: str | None = None
    """Other tasks, comma-separated: what is tuned on each of them and on TASK is scored on all, without more tuning."""
    seeds: int = 3
    """Trainings behind each score, at the tuned rate; the first are also those the rate is tuned with."""
    rates: int = 5
    """Learning rates tried for each method, on the selection split, with one seed: the same number for all."""
    steps: int | None = None
    """Optimizer steps of each run, in place of the recipe's."""
    batch: int | None = None
    """Rows of a step, in place of the recipe's."""
    length: int | None = None
    """Tokens after which a text is cut, in place of the recipe's."""
    precision: Literal["float32", "bfloat16"] | None = None
    """Of the network and the data; what a method adds stays at float32. Default: the recipe's."""
    head_lr: float | None = None
    """Learning rate of the fresh last layer, the same for every method. Default: 1e-3."""
    evaluations: int = 10
    """Looks at 512 rows of the selection split during a training: the convergence curve."""
    costs: Literal["auto", "none", "full"] = "auto"
    """Memory and time of a step: at one batch size (auto), at 1, 8, 32, 64 in fp32, bf16 and NF4 (full), or none."""
    engine: EngineName = "processes"
    """Where runs train: worker processes of one thread each, this process, or Ray. The numbers are the same."""
    address: str | None = None
    """With engine ray: the cluster to join, HOST:PORT or auto. Default: one of this machine alone."""
    workers: int | None = None
    """Runs at once on this machine. Default: one for each core."""
    store: Path | None = None
    """Folder of finished runs, reused by key. Default: the folder ``store`` beside OUT."""
    out: Path | None = None
    """Folder for report.json, table.md, methods.png. Default: idim-out/methods-TASK-MODEL."""
    data: Path | None = None
    """Folder of the data sets. Default: the environment's IDIM_DATA."""
    quiet: bool = False
    """No progress bar and no table: only the files."""

    def __post_init__(self) -> None:
        paths_from_text(self, "store", "out", "data")
        for name in ("seeds", "rates", "evaluations"):
            _check_count(name, getattr(self, name))
        for name in ("steps", "batch", "length", "workers"):
            if getattr(self, name) is not None:
                _check_count(name, getattr(self, name))
        if self.seeds > MOST_SEEDS:
            raise RequestError(f"seeds must be at most {MOST_SEEDS:,}; received {self.seeds}")
        if self.rates > MOST_RATES:
            raise RequestError(f"rates must be at most {MOST_RATES}; received {self.rates}")
        if self.head_lr is not None and not 0 < self.head_lr < math.inf:
            raise RequestError(f"head_lr must be finite and above 0; received {self.head_lr}")
        engines.check(self)

    @property
    def worker_count(self) -> int:
        """The number of runs at once on this machine: as asked, else one for each usable core."""
        return engines.worker_count(self)


def _check_count(name: str, value: int) -> None:
    if not 1 <= value <= MOST:
        raise RequestError(f"{name} must be between 1 and {MOST:,}; received {value}")
