"""What a user asks of ``idim bound``, checked before anything heavy is imported.

The field docstrings are the help texts of ``idim bound --help``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from idim.errors import RequestError
from idim.files import paths_from_text

MOST_LEVELS = 4096
LEAST_KEY = 6


@dataclass(frozen=True, kw_only=True)
class BoundRequest:
    """Bound the probability of a wrong answer of finished runs in a subspace, from how few bits write them down."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = ()
    """Folders of Subspace.save; with --store, keys or their first digits. Default: the store's best run for each d."""
    store: Path | None = None
    """Folder of finished runs; their trained numbers are made again by training, once, and kept in OUT."""
    task: str | None = None
    """Of the store's runs, those of this task; for a folder that does not say what it learned, that."""
    model: str | None = None
    """Of the store's runs, those of this network; for a folder that does not say it, the network's name."""
    projection: str | None = None
    """Of the store's runs, those with this projection."""
    dims: str | None = None
    """Of the store's runs, those with these d, such as 100,1000."""
    steps: int | None = None
    """Of the store's runs, those of so many steps."""
    seed: int = 0
    """Seed of the initial values, for a folder that does not say it."""
    levels: str = "3,5,7,9,15"
    """Numbers of levels that the trained numbers are rounded to; the best is taken."""
    tune: int = 200
    """Steps of training at the levels, for each number of levels; 0: round and leave it at that."""
    lr: float | None = None
    """Learning rate of these steps. Default: the run's own; for a folder that does not say it, 2.4/sqrt(d)."""
    delta: float = 0.05
    """Probability that a bound fails, over the draw of the training rows."""
    extra_bits: float = 0.0
    """Bits for what else the rows have decided: log2 of the number of networks or projections tried elsewhere."""
    unseen: bool = False
    """State that a learned basis, or the start of a network, owes nothing to the rows of the task."""
    out: Path = Path("idim-out/bounds")
    """Folder for report.json, trained/ (numbers as trained) and coded/ (the networks that the bounds are for)."""
    data: Path | None = None
    """Folder of the data sets. Default: the environment's IDIM_DATA."""
    quiet: bool = False
    """No progress and no table: only the files."""

    def __post_init__(self) -> None:
        paths_from_text(self, "store", "out", "data")
        if not self.runs and self.store is None:
            raise RequestError("bound needs a run: folders of saved subspaces, or --store DIR; received neither")
        if not 0 < self.delta < 1:
            raise RequestError(f"delta, the probability that a bound fails, must be in (0, 1); received {self.delta:g}")
        if not 0 <= self.extra_bits < math.inf:
            raise RequestError(f"extra_bits must be finite and at least 0; received {self.extra_bits:g}")
        if self.tune < 0:
            raise RequestError(f"tune must be at least 0 steps; received {self.tune}")
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise RequestError(f"lr must be finite and above 0; received {self.lr}")
        _ = self.level_counts, self.dimensions
        if self.store is None and (self.projection, self.dims, self.steps) != (None, None, None):
            raise RequestError("projection, dims and steps choose among the runs of a store; received no --store")

    @property
    def level_counts(self) -> tuple[int, ...]:
        """The numbers of levels to try, ascending."""
        return _numbers("levels", self.levels, 2, MOST_LEVELS)

    @property
    def dimensions(self) -> tuple[int, ...] | None:
        """The d that are asked for, or None for all."""
        return None if self.dims is None else _numbers("dims", self.dims, 1, 10**12)


def _numbers(name: str, text: str, least: int, most: int) -> tuple[int, ...]:
    try:
        numbers = sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise RequestError(f"{name} must be whole numbers such as 3,5,9; received {text!r}") from None
    if not least <= numbers[0] <= numbers[-1] <= most:
        raise RequestError(f"{name} must be from {least} to {most:,}; received {text!r}")
    return tuple(numbers)
