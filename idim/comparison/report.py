"""The answer of ``idim subspace compare``: a frozen value that prints, draws, tabulates and saves itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from idim import plots
from idim.comparison import picture, table
from idim.comparison.contender import Contender
from idim.dimension.result import DimensionResult
from idim.files import write_json

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Row:
    """One subspace: what it is, and its measure on every task."""

    contender: Contender
    results: Mapping[str, DimensionResult]

    def scores(self, task: str) -> dict[int, float]:
        """Return the mean score at each d on a task."""
        return {point.d: point.mean for point in self.results[task].curve} if task in self.results else {}

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return self.contender.to_json() | {"results": {name: _short(found) for name, found in self.results.items()}}


def _short(result: DimensionResult) -> dict[str, Any]:
    """Return what of a measure belongs to one subspace: the rest is shared."""
    whole = result.to_dict()
    fields = ("d_int", "ci95", "censored", "falls", "lr_rule", "seeds", "curve", "failed", "trainings", "steps")
    return {name: whole[name] for name in fields}


@dataclass(frozen=True, kw_only=True)
class CompareReport:
    """Subspaces of many kinds on the same work.

    Attributes:
        task: what they were found for.
        unseen: what they were used on besides.
        learn_from: what deltas were learned from.
        model: the network of all; burn-in starts it elsewhere.
        D: parameters that a subspace is of.
        dims: the d at which each kind was trained.
        steps: of every run, full or inside.
        full, bar: by task, the full trainings and the score behind d_int.
        rows: one a subspace.
        left_out: kinds that could not be found, and why.
    """

    task: str
    unseen: tuple[str, ...]
    learn_from: tuple[str, ...]
    model: str
    metric: str
    D: int
    dims: tuple[int, ...]
    steps: int
    full: Mapping[str, Mapping[str, Any]]
    bar: Mapping[str, Mapping[str, Any]]
    rows: tuple[Row, ...]
    left_out: Mapping[str, str]
    versions: Mapping[str, str]

    @property
    def tasks(self) -> tuple[str, ...]:
        """All tasks, the one that subspaces were found for first."""
        return self.task, *self.unseen

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data."""
        shallow = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {"format": FORMAT, **shallow, "rows": [row.to_json() for row in self.rows]}

    def to_frame(self) -> pd.DataFrame:
        """Return one row a run: kind, task, d, lr, seed, score."""
        import pandas as pd

        runs = [
            {"kind": row.contender.label, "task": task, "d": point.d, "lr": point.lr, "seed": seed, "score": score}
            for row in self.rows
            for task, found in row.results.items()
            for point in found.curve
            for seed, score in sorted(point.scores.items())
        ]
        return pd.DataFrame(runs, columns=["kind", "task", "d", "lr", "seed", "score"])

    def plot(self, ax: Axes, *, task: str | None = None) -> Axes:
        """Draw score against d on ``ax``, a line a subspace, and return it; the lines are labelled for a legend."""
        name = self.task if task is None else task
        lines = {row.contender.label: row.scores(name) for row in self.rows}
        full, bar = self.full[name]["mean"], self.bar[name]["value"]
        return picture.curves(ax, lines, full=full, bar=bar, metric=self.metric, title=picture.short(name))

    def save(self, folder: Path | str) -> Path:
        """Write report.json and compare.png into ``folder``; each is whole or absent."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "report.json", self.to_json())
        with plots.canvas(figsize=(4.8 * len(self.tasks) + 0.6, 4.6)) as fig:
            picture.sheet(fig, self)
            plots.save(fig, folder / "compare.png")
        return folder

    def __str__(self) -> str:
        return table.terminal(self)

    def _repr_html_(self) -> str:
        return table.html(self)
