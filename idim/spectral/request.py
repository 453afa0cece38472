"""What a user asks of ``spectrum``, checked before anything heavy is imported.

One frozen dataclass serves Python and the command line; its field docstrings are the help texts of
``idim spectrum --help``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from idim.errors import RequestError
from idim.files import named_folder

DIRECTIONS = 8
MOST_DIRECTIONS = 4096
MOST_ROUNDINGS = 10**9
SEEDS = 2**63
PLAIN_NAMES = ("model", "pytorch_model", "adapter_model")


@dataclass(frozen=True, kw_only=True)
class SpectrumRequest:
    """Judge the rank of what tuning changed, matrix by matrix, against rounding and a null."""

    base: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="BASE")]
    """The model before: a folder or file of safetensors, or a hub name; "-" for an adapter alone."""
    tuned: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TUNED")]
    """The model after: the same, or a PEFT adapter, or a saved Subspace."""
    against: str | None = None
    """Another model tuned from BASE: compare the directions of both changes, and each with BASE."""
    directions: int | None = None
    """Leading directions that --against compares. Default: 8."""
    over: Path | None = None
    """Folder of checkpoints of the training (checkpoint-100, step_200, ...): rank against step."""
    include: str = "*"
    """Names to look at, as in a shell; several patterns with commas: '*.query.*,*.key.*'."""
    out: Path | None = None
    """Folder for report.json, matrices.parquet, spectrum.png. Default: idim-out/spectrum-BASE-TUNED."""
    pickle: bool = False
    """Also read pickle checkpoints (.bin, .pt, .pth), as weights only."""
    seed: int = 0
    """Of the random draws of the null and of randomized decompositions."""
    false_positive_rate: float = 0.01
    """Chance, for each matrix, that noise alone is called a direction."""
    roundings: int = 1
    """How many times training rounded each stored number: 1 if TUNED was saved once, steps if it trained in place."""
    quiet: bool = False
    """No progress bar and no table: only the files."""

    def __post_init__(self) -> None:
        if not 0 < self.false_positive_rate < 0.5:
            raise RequestError(f"false_positive_rate must be in (0, 0.5); received {self.false_positive_rate}")
        if not 1 <= self.roundings <= MOST_ROUNDINGS:
            raise RequestError(f"roundings must be from 1 to {MOST_ROUNDINGS:,}; received {self.roundings}")
        if not 0 <= self.seed < SEEDS:
            raise RequestError(f"seed must be from 0 to 2^63 - 1; received {self.seed}")
        if not all(self.patterns):
            raise RequestError(f"include must be name patterns such as '*.query.*'; received {self.include!r}")
        if self.directions is not None and self.against is None:
            raise RequestError(f"directions are compared with --against; received {self.directions} without it")
        if not 1 <= self.compared <= MOST_DIRECTIONS:
            raise RequestError(f"directions must be from 1 to {MOST_DIRECTIONS}; received {self.directions}")

    @property
    def compared(self) -> int:
        """The number of leading directions of a comparison."""
        return DIRECTIONS if self.directions is None else self.directions

    @property
    def patterns(self) -> tuple[str, ...]:
        """The name patterns, one each."""
        return tuple(part.strip() for part in self.include.split(","))

    @property
    def folder(self) -> Path:
        """Where the report goes: ``out``, or a name made of what is compared."""
        if self.out is not None:
            return self.out
        return named_folder("spectrum", _short(self.base), _short(self.tuned))


def _short(place: str) -> str:
    """Return the last telling part of a path or a hub name.

    >>> _short("runs/a/model.safetensors"), _short("runs/a/tuned.safetensors"), _short("org/model")
    ('a', 'tuned', 'model')
    """
    path = Path(place)
    if not path.suffix:
        return path.name
    return path.parent.name if path.stem in PLAIN_NAMES and path.parent.name else path.stem
