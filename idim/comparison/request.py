"""What a user asks of ``idim subspace compare``, checked before anything heavy is imported.

One frozen dataclass serves Python and the command line; its field docstrings are the help texts of
``idim subspace compare --help``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from idim.errors import RequestError
from idim.files import paths_from_text
from idim.learned.request import EvaluateRequest, LearnRequest
from idim.runs import engines
from idim.runs.engines import EngineName

KINDS = "hadamard,said,burn-in,lottery,trajectory,hessian,gradients"
DELTAS = "deltas"
MOST_DIMS = 50


@dataclass(frozen=True, kw_only=True)
class CompareRequest:
    """Train a network in subspaces of many kinds at the same d, and put the kinds side by side."""

    task: str = "digits"
    """What to learn: a name as for measure."""
    model: str | None = None
    """What learns it: a name as for measure. Default: the task's own."""
    kinds: str = KINDS
    """Subspaces, comma-separated. Random: hadamard and other projections, said (one scale a layer), burn-in (random
    around a checkpoint). Found from a training: trajectory, lottery. From the network at its start: hessian,
    gauss-newton, gradients. From other tasks: deltas. From a file: basis:FILE, decoder:FILE."""
    dims: str = "5,10,20,40"
    """The d at which every kind is trained."""
    learn_from: str | None = None
    """Other tasks of the same shape, comma-separated: the kind deltas is learned from networks tuned on them."""
    unseen: str | None = None
    """Tasks of the same shape, comma-separated, that share no rows with the others: every subspace is used on them as
    it was found on TASK, from the same initial parameters."""
    bar: str | None = None
    """For d_int, as for measure, the same for all kinds. Default: the task's own."""
    seeds: int = 3
    """Trainings at each d. A subspace found from data belongs to the initial parameters of seed 0: it has one."""
    reference_seeds: int = 3
    """Full trainings behind a relative bar; seed 0 is the one that subspaces are found from."""
    lr: str = "auto"
    """auto: lr(d) = c/sqrt(d), c tuned for each kind on the selection split; C/sqrt(d); or one rate for every d."""
    reference_lr: float | None = None
    """Learning rate of full training. Default: tuned on the selection split."""
    steps: int | None = None
    """Optimizer steps of each run, in place of the recipe's."""
    points: int | None = None
    """Checkpoints behind trajectory and lottery. Default: 50, or the largest d where that is more."""
    burn_in: int | None = None
    """Steps of full training before the random subspace of burn-in. Default: a tenth of them."""
    rows: int | None = None
    """Rows of data behind hessian, gauss-newton and gradients. Default: at most 1,000."""
    products: int = 1000
    """Products with the Hessian or the Gauss-Newton matrix that may be made."""
    engine: EngineName = "processes"
    """Where runs train: worker processes of one thread each, this process, or Ray. The numbers are the same."""
    address: str | None = None
    """With engine ray: the cluster to join, HOST:PORT or auto. Default: one of this machine alone."""
    workers: int | None = None
    """Runs at once on this machine. Default: one for each core."""
    store: Path | None = None
    """Folder of finished runs and checkpoints, reused by key. Default: the folder ``store`` beside OUT."""
    out: Path | None = None
    """Folder for report.json, compare.png and the bases. Default: idim-out/subspaces-TASK-MODEL."""
    data: Path | None = None
    """Folder of the data sets. Default: the environment's IDIM_DATA."""
    quiet: bool = False
    """No progress bar and no table: only the files."""

    def __post_init__(self) -> None:
        paths_from_text(self, "store", "out", "data")
        for name in ("seeds", "reference_seeds", "steps", "points", "burn_in", "rows", "products", "workers"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise RequestError(f"{name} must be at least 1; received {value}")
        if self.reference_lr is not None and not 0 < self.reference_lr < math.inf:
            raise RequestError(f"reference_lr must be finite and above 0; received {self.reference_lr}")
        several = [kind for kind in self.wanted if self.wanted.count(kind) > 1]
        if several or not self.wanted:
            received = f"{several[0]!r} again" if several else "none"
            raise RequestError(f"kinds must name at least one subspace, each once; received {received}")
        if (DELTAS in self.wanted) != (len(self.tuned_on) > 1):
            raise RequestError(
                f"kind {DELTAS!r} is learned from at least two other tasks, and nothing else is: give it in kinds and "
                f"them in learn_from, or neither; received kinds {self.kinds!r} with learn_from {self.learn_from!r}"
            )
        _ = self.dimensions
        engines.check(self)

    @property
    def wanted(self) -> tuple[str, ...]:
        """The kinds asked for."""
        return _names(self.kinds)

    @property
    def tuned_on(self) -> tuple[str, ...]:
        """The tasks that deltas are learned from."""
        return _names(self.learn_from)

    @property
    def held_out(self) -> tuple[str, ...]:
        """The unseen tasks."""
        return _names(self.unseen)

    @property
    def dimensions(self) -> tuple[int, ...]:
        """The dims asked for, ascending without repeats."""
        try:
            dims = tuple(sorted({int(part) for part in self.dims.split(",")}))
        except ValueError:
            raise RequestError(f"dims must be integers such as 5,10,20; received {self.dims!r}") from None
        if dims[0] < 1 or len(dims) > MOST_DIMS:
            raise RequestError(f"dims must be at most {MOST_DIMS} integers from 1 up; received {self.dims!r}")
        return dims


def _names(text: str | None) -> tuple[str, ...]:
    """Return names between commas; an option after a colon may hold some, as in ``mnist:shuffled-labels,rows=9``.

    >>> _names("digits,mnist:shuffled-labels,rows=9, toy")
    ('digits', 'mnist:shuffled-labels,rows=9', 'toy')
    """
    names: list[str] = []
    for part in (text or "").split(","):
        if "=" in part and names and ":" in names[-1]:
            names[-1] += f",{part.strip()}"
        elif part.strip():
            names.append(part.strip())
    return tuple(names)


@dataclass(frozen=True)
class SubspaceRequest:
    """Learn subspaces from data, say what they hold, and put them side by side."""

    action: (
        Annotated[LearnRequest, tyro.conf.subcommand("learn")]
        | Annotated[EvaluateRequest, tyro.conf.subcommand("evaluate")]
        | Annotated[CompareRequest, tyro.conf.subcommand("compare")]
    )
