"""What a user asks of ``sweep`` and ``export``, checked before anything heavy is imported.

The field docstrings are the help texts of the command line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from idim.errors import RequestError
from idim.runs import engines
from idim.runs.engines import EngineName

SHARD = re.compile(r"([0-9]{1,6})/([0-9]{1,6})")


@dataclass(frozen=True, kw_only=True)
class SweepRequest:
    """Train a grid of runs written down in YAML; what the store has is not trained again."""

    spec: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SPEC.yaml")]
    """The grid: see docs/sweep.md."""
    overrides: Annotated[
        tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(name="set", metavar="KEY=VALUE")
    ] = ()
    """Another value for a key, in every grid of the file: --set task=mnist --set recipe.steps=100."""
    dry_run: bool = False
    """Count and check the runs, time a few steps, estimate time and disk; train nothing."""
    shard: str | None = None
    """i/N: only the i-th of N parts, i from 1 to N, for arrays of jobs with a store each. A run stays in its part."""
    engine: EngineName = "processes"
    """Where runs train: worker processes of one thread each, this process, or Ray. The numbers are the same."""
    address: str | None = None
    """With engine ray: the cluster to join, HOST:PORT or auto. Default: one of this machine alone."""
    workers: int | None = None
    """Runs at once on this machine. Default: one for each core."""
    store: Path = Path("idim-out/store")
    """Folder of finished runs, reused by key."""
    reuse: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="STORE")] = ()
    """Another store whose finished runs are copied into this one first, as after an array of jobs."""
    data: Path | None = None
    """Folder of the data sets. Default: the environment's IDIM_DATA."""
    quiet: bool = False
    """No progress bar and no summary."""

    def __post_init__(self) -> None:
        engines.check(self)
        self.part  # noqa: B018  checks it

    @property
    def part(self) -> tuple[int, int]:
        """The part asked for, from 0, and the number of parts."""
        match = SHARD.fullmatch("1/1" if self.shard is None else self.shard)
        index, parts = (int(match[1]), int(match[2])) if match else (0, 0)
        if not 1 <= index <= parts:
            raise RequestError(f"shard must be i/N with i from 1 to N, such as 3/8; received {self.shard!r}")
        return index - 1, parts

    @property
    def worker_count(self) -> int:
        """The number of runs at once: as asked, else one for each usable core; 1 where a cluster will say."""
        return engines.worker_count(self)


@dataclass(frozen=True)
class StatusRequest:
    """Show what a store holds: runs done, running and failed, with the reasons and the time that remains."""

    store: Annotated[Path, tyro.conf.Positional]
    """Folder of a store."""


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """Write the runs of stores as one table: a row a run, with its spec, its result and where it was made."""

    stores: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="STORE")]
    """Folders of stores; a run that several have is written once."""
    parquet: Path | None = None
    """File to write as parquet."""
    json: Path | None = None
    """File to write as a JSON list of records."""
    csv: Path | None = None
    """File to write as comma-separated values."""

    def __post_init__(self) -> None:
        if not self.stores:
            raise RequestError("export needs at least one store; received none")
        if not self.files:
            raise RequestError("export needs a file to write: --parquet, --json or --csv; received none")
        for kind in ("parquet", "json", "csv"):
            path: Path | None = getattr(self, kind)
            if path is not None and path.suffix != f".{kind}":
                raise RequestError(f"the file of --{kind} must end in .{kind}; received {path}")

    @property
    def files(self) -> tuple[Path, ...]:
        """The files to write."""
        return tuple(path for path in (self.parquet, self.json, self.csv) if path is not None)
