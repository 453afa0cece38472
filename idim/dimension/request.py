"""What a user asks of ``measure``, checked before anything heavy is imported.

One frozen dataclass serves Python, the command line and YAML; its field docstrings are the help
texts of ``idim measure --help``.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from idim.errors import RequestError
from idim.files import paths_from_text
from idim.runs import engines
from idim.runs.engines import EngineName

MAX_DIMS = 1000
MOST = 10**9  # of any count
MAX_SEEDS = 10_000
LR_FORMS = "lr must be 'auto', a positive number, or one such as 2.4/sqrt(d); received {!r}"


@dataclass(frozen=True, kw_only=True)
class MeasureRequest:
    """Measure d_int: the least number of coordinates whose training reaches the bar."""

    task: str = "digits"
    """What to learn: digits, mnist, cifar10_jpeg[:N], idx:FOLDER, toy, regression:RANK; texts: rotten_tomatoes, mrpc
    and other folders of the data folder, csv:PATH, hf:NAME; next tokens of any of these, or of txt:PATH: lm:TEXTS."""
    model: str | None = None
    """What learns it: mlp:WIDTH,WIDTH,…, lenet, linear, your FILE.py:FUNCTION; pretrained: minilm[:LAYERS],
    smollm2, resnet20, a folder or a hub name; scratch:NAME draws its weights, start:FILE:NAME
    reads them. Default: the task's own."""
    projection: str = "hadamard"
    """The map P: hadamard, fastfood, dense, sparse, uniform, kronecker, selector, layerwise[:KIND];
    learned: basis:FILE."""
    bar: str | None = None
    """absolute:X, a fraction of the measured reference (0.9), or above-chance:X. For lm: absolute:30 is a perplexity of
    at most 30, above-chance is above the untuned decoder. Default: the task's own."""
    dims: str = "auto"
    """Search d by itself (auto), or measure exactly these: 10,100,1000."""
    seeds: int = 3
    """Replicates at the deciding d: initialisation, P and data order are drawn together. At least 1."""
    reference_seeds: int = 6
    """Full trainings behind a relative bar; their spread enters the interval. At least 1."""
    lr: str = "auto"
    """auto: lr(d) = c/sqrt(d), c tuned on the selection split; C/sqrt(d) with a known C; or one rate for every d."""
    reference_lr: float | None = None
    """Learning rate of the full trainings behind a relative bar. Default: tuned on the selection split."""
    protocol: Literal["default", "li2018"] = "default"
    """How each run trains: the task's own recipe, or Li et al. 2018 (Adam 1e-3, L2 1e-5, batch 128, 100 epochs)."""
    steps: int | None = None
    """Optimizer steps of each run, in place of the recipe's."""
    head: Literal["auto", "inside", "trained", "frozen"] = "auto"
    """The fresh last layer of a pretrained network: inside P, trained directly, or frozen. auto: trained, for texts."""
    head_lr: float | None = None
    """Learning rate of a head that is trained directly, the same at every d. Default: 1e-3."""
    batch: int | None = None
    """Rows of a step, in place of the recipe's."""
    accumulate: int = 1
    """Parts of a batch that go through the network one after another, to save memory."""
    length: int | None = None
    """Tokens after which a text is cut, in place of the recipe's."""
    precision: Literal["float32", "float64", "bfloat16"] | None = None
    """Of the network and the data; coordinates and heads stay at float32 or better. Default: the recipe's."""
    weight_decay: float | None = None
    """On what the optimizer sees: decoupled under adamw, coupled under adam and sgd. Default: the recipe's."""
    dropout: bool = False
    """Keep the dropout rates of a language model's configuration. Default: no dropout."""
    width: float = 0.25
    """Stop when the 95 % interval is narrower than this fraction of d_int."""
    budget: int = 100
    """Stop the search after this many trainings; finding the learning rate comes on top."""
    d_max: int | None = None
    """Largest d to try, at most D, which is the default. Not reached by then is reported as censored."""
    engine: EngineName = "processes"
    """Where runs train: worker processes of one thread each, this process, or Ray. The numbers are the same."""
    address: str | None = None
    """With engine ray: the cluster to join, HOST:PORT or auto. Default: one of this machine alone."""
    workers: int | None = None
    """Runs at once on this machine. Default: one for each core."""
    store: Path | None = None
    """Folder of finished runs, reused by key. Default: the folder ``store`` beside OUT."""
    out: Path | None = None
    """Folder for report.json and curve.png. Default: idim-out/TASK-MODEL-PROJECTION."""
    data: Path | None = None
    """Folder of the data sets. Default: the environment's IDIM_DATA."""
    quiet: bool = False
    """No progress bar and no table: only the files."""

    def __post_init__(self) -> None:
        paths_from_text(self, "store", "out", "data")
        _at_least("seeds", self.seeds, 1)
        _at_least("reference_seeds", self.reference_seeds, 1)
        _at_least("budget", self.budget, 1)
        if max(self.seeds, self.reference_seeds) > MAX_SEEDS:
            raise RequestError(f"seeds must be at most {MAX_SEEDS:,}; received {max(self.seeds, self.reference_seeds)}")
        for name in ("steps", "d_max", "workers", "batch", "length"):
            if getattr(self, name) is not None:
                _at_least(name, getattr(self, name), 1)
        for name in ("head_lr", "reference_lr"):
            rate = getattr(self, name)
            if rate is not None and not 0 < rate < math.inf:
                raise RequestError(f"{name} must be finite and above 0; received {rate}")
        if not 0 < self.width < 10:
            raise RequestError(f"width must be between 0 and 10 (a fraction of d_int); received {self.width}")
        if self.lr != "auto" and not 0 < self.learning_rate[0] < math.inf:
            raise RequestError(LR_FORMS.format(self.lr))
        self._no_idle_options(searched=self.dimensions is None)

    def _no_idle_options(self, *, searched: bool) -> None:
        """Refuse an option that would have no effect: whoever gave it expects one."""
        plain = {field.name: field.default for field in dataclasses.fields(self)}
        for name in ("width", "budget", "d_max"):
            if not searched and getattr(self, name) != plain[name]:
                raise RequestError(
                    f"{name} belongs to the search, and dims {self.dims!r} leaves none; "
                    f"received {name} {getattr(self, name)}: leave one of them out"
                )
        engines.check(self)

    @property
    def learning_rate(self) -> tuple[float, float]:
        """The constant c and the power p of lr(d) = c / d**p that was asked for; (nan, nan) for ``auto``."""
        if self.lr == "auto":
            return math.nan, math.nan
        constant = self.lr.removesuffix("/sqrt(d)")
        try:
            return float(constant), 0.0 if constant == self.lr else 0.5
        except ValueError:
            raise RequestError(LR_FORMS.format(self.lr)) from None

    @property
    def dimensions(self) -> tuple[int, ...] | None:
        """The dims asked for, ascending without repeats, or None for ``auto``."""
        if self.dims == "auto":
            return None
        try:
            dims = sorted({int(part) for part in self.dims.split(",")})
        except ValueError:
            raise RequestError(f"dims must be 'auto' or integers such as 10,100,1000; received {self.dims!r}") from None
        if dims[0] < 1:
            raise RequestError(f"d must be at least 1; received d = {dims[0]} in dims {self.dims!r}")
        if len(dims) > MAX_DIMS:
            raise RequestError(f"dims must name at most {MAX_DIMS} values; received {len(dims)}")
        return tuple(dims)

    @property
    def worker_count(self) -> int:
        """The number of runs at once on this machine: as asked, else one for each usable core."""
        return engines.worker_count(self)


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise RequestError(f"{name} must be at least {least}; received {value}")
    if value > MOST:
        raise RequestError(f"{name} must be at most {MOST:,}; received {value}")
