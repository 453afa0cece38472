"""What a user asks of ``idim subspace``, checked before anything heavy is imported.

The field docstrings are the help texts of ``idim subspace learn trajectory --help`` and its like.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from idim.errors import RequestError
from idim.files import paths_from_text
from idim.learned.ipt_request import IPTRequest

Precision = Literal["float32", "bfloat16", "float16"]
MOST_POINTS = 10_000


@dataclass(frozen=True, kw_only=True)
class TrajectoryRequest:
    """Learn a basis from one training: the principal components of its checkpoints."""

    checkpoints: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")] = ()
    """Safetensors of one training, from its first parameters on. Default: train the task, and keep checkpoints."""
    task: str | None = None
    """What to learn where there are no checkpoints: a name as for measure."""
    model: str | None = None
    """What learns it: a name as for measure. Default: the task's own."""
    lr: float | None = None
    """Learning rate of that training."""
    steps: int | None = None
    """Optimizer steps, in place of the recipe's."""
    seed: int = 0
    """Of initialisation and data order: the basis is for the network of this seed."""
    length: int | None = None
    """Tokens after which a text is cut, in place of the recipe's."""
    points: int = 50
    """Checkpoints to keep on the way, evenly spaced; the initial parameters are one more."""
    columns: int | None = None
    """Columns of the basis; by layer, of each layer. Default: as many as there are directions."""
    by_layer: bool = False
    """Give every layer directions of its own."""
    centre: Literal["mean", "start"] = "mean"
    """What is taken off the checkpoints: their mean, as in principal components, or the initial parameters."""
    include: tuple[str, ...] = ("*",)
    """Name patterns of the tensors that the basis is over."""
    exclude: tuple[str, ...] = ()
    """Patterns of those it is not, such as 'head.*'. Default: what the training treats apart."""
    fits_any: bool = False
    """Let the basis fit any values of these parameters, not only those it was learned from."""
    precision: Precision = "float32"
    """Of the stored numbers."""
    out: Path
    """The file to write."""
    store: Path | None = None
    """Folder of runs, where the training and its checkpoints are kept. Default: the folder ``store`` beside OUT."""
    data: Path | None = None
    """Folder of the data sets. Default: the environment's IDIM_DATA."""
    quiet: bool = False
    """Only the file."""

    def __post_init__(self) -> None:
        paths_from_text(self, "out", "store", "data")
        if bool(self.checkpoints) == (self.task is not None):
            received = f"{len(self.checkpoints)} checkpoints and task {self.task!r}"
            raise RequestError(f"a trajectory is of checkpoints, or of a task that is trained now; received {received}")
        if self.task is not None and not (self.lr is not None and 0 < self.lr < math.inf):
            raise RequestError(f"training a task needs lr, finite and above 0; received {self.lr}")
        if self.checkpoints and (self.lr, self.model, self.steps, self.length) != (None, None, None, None):
            raise RequestError(
                "lr, model, steps and length are of a training, and checkpoints leave none: leave them out"
            )
        if len(self.checkpoints) == 1:
            raise RequestError(f"a trajectory needs at least two checkpoints; received one, {self.checkpoints[0]}")
        if not 1 <= self.points <= MOST_POINTS:
            raise RequestError(f"points must be from 1 to {MOST_POINTS:,}; received {self.points}")
        for name in ("steps", "length"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise RequestError(f"{name} must be at least 1; received {value}")
        self._check_columns()

    def _check_columns(self) -> None:
        """Refuse more columns than checkpoints after the first can span, before anything trains."""
        most = len(self.checkpoints) - 1 if self.checkpoints else min(self.points, self.steps or self.points)
        if self.columns is not None and not 1 <= self.columns <= most:
            raise RequestError(
                f"columns must be from 1 to {most}, the checkpoints after the first; received {self.columns}"
            )


@dataclass(frozen=True, kw_only=True)
class CurvatureRequest:
    """Learn a basis from a network where it stands: leading directions of curvature, or of gradients of single rows."""

    task: str
    """Whose training rows: a name as for measure."""
    model: str | None = None
    """Which network: a name as for measure; start:FILE:NAME looks at a checkpoint. Default: the task's own."""
    of: Literal["hessian", "gauss-newton", "gradients"] = "hessian"
    """Eigenvectors largest in magnitude of the Hessian or the Gauss-Newton matrix, or singular directions of the
    gradients of single rows."""
    columns: int = 20
    """Columns of the basis."""
    rows: int | None = None
    """Rows of the training split that are looked at, chosen by the hash of their number. Default: at most 1,000."""
    seed: int = 0
    """Of initialisation: the basis is for the network of this seed."""
    length: int | None = None
    """Tokens after which a text is cut, in place of the recipe's."""
    tolerance: float = 1e-3
    """Largest residual of an eigenpair, as a share of the first eigenvalue."""
    products: int = 1000
    """Products with the matrix that may be made, each of about three gradients of all rows."""
    include: tuple[str, ...] = ("*",)
    """Name patterns of the parameters that the basis is over."""
    exclude: tuple[str, ...] = ()
    """Patterns of those it is not. Default: what a training treats apart."""
    fits_any: bool = False
    """Let the basis fit any values of these parameters, not only those it was learned at."""
    precision: Precision = "float32"
    """Of the stored numbers."""
    out: Path
    """The file to write."""
    data: Path | None = None
    """Folder of the data sets. Default: the environment's IDIM_DATA."""
    quiet: bool = False
    """Only the file."""

    def __post_init__(self) -> None:
        paths_from_text(self, "out", "data")
        for name in ("columns", "rows", "products", "length"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise RequestError(f"{name} must be at least 1; received {value}")
        if not 0 < self.tolerance < 1:
            raise RequestError(f"tolerance must be above 0 and below 1; received {self.tolerance}")


@dataclass(frozen=True, kw_only=True)
class DeltasRequest:
    """Learn a basis from models tuned on several tasks: the directions in which they moved away from one base."""

    base: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="BASE")]
    """The model before: a safetensors file, or a folder with one."""
    tuned: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="TUNED")]
    """The models after, one for each task, at least two; PEFT adapters and saved subspaces of the base too."""
    columns: int | None = None
    """Columns of the basis; by layer, of each layer. Default: as many as there are directions."""
    by_layer: bool = False
    """Give every layer directions of its own."""
    centred: bool = False
    """Take the mean of the deltas off them first."""
    include: tuple[str, ...] = ("*",)
    """Name patterns of the tensors that the basis is over."""
    exclude: tuple[str, ...] = ()
    """Patterns of those it is not, such as 'head.*'."""
    fits_any: bool = False
    """Let the basis fit any values of these parameters, not only the base's."""
    precision: Precision = "float32"
    """Of the stored numbers."""
    out: Path
    """The file to write; what tasks say of each other goes beside it, as .json."""
    quiet: bool = False
    """Only the files."""

    def __post_init__(self) -> None:
        paths_from_text(self, "base", "out")
        if len(self.tuned) < 2:
            raise RequestError(f"a subspace of tasks needs at least two tuned models; received {len(self.tuned)}")
        several = [place for place in self.tuned if self.tuned.count(place) > 1]
        if several:
            raise RequestError(f"every tuned model must be given once; received {several[0]} again")


@dataclass(frozen=True, kw_only=True)
class EvaluateRequest:
    """Say how much of what tuning changed lies in a basis, beside a random subspace of as many columns."""

    basis: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="BASIS")]
    """The file of the basis."""
    base: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="BASE")]
    """The model before: a safetensors file, or a folder with one."""
    tuned: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="TUNED")]
    """Models tuned from it; PEFT adapters and saved subspaces of it too."""
    unseen: tuple[str, ...] = ()
    """Names of the tasks that these were tuned on, to be refused where they share rows with those LEARNED_FROM."""
    learned_from: tuple[str, ...] = ()
    """Names of the tasks that the basis was learned from."""
    out: Path | None = None
    """File for the report, ending in .json."""
    data: Path | None = None
    """Folder of the data sets. Default: the environment's IDIM_DATA."""
    quiet: bool = False
    """No table: only the file."""

    def __post_init__(self) -> None:
        paths_from_text(self, "basis", "base", "out", "data")
        if bool(self.unseen) != bool(self.learned_from):
            raise RequestError(
                "unseen tasks are set against those the basis was learned from: name both, or neither; "
                f"received unseen {list(self.unseen)} and learned_from {list(self.learned_from)}"
            )
        if not self.tuned:
            raise RequestError("evaluate needs at least one tuned model; received none")
        if self.out is not None and self.out.suffix != ".json":
            raise RequestError(f"the report must be a file that ends in .json; received {self.out}")


@dataclass(frozen=True)
class LearnRequest:
    """Learn a subspace from data, and write it as a basis."""

    kind: (
        Annotated[TrajectoryRequest, tyro.conf.subcommand("trajectory")]
        | Annotated[DeltasRequest, tyro.conf.subcommand("deltas")]
        | Annotated[CurvatureRequest, tyro.conf.subcommand("curvature")]
        | Annotated[IPTRequest, tyro.conf.subcommand("ipt")]
    )
