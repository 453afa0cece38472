"""The answer of ``idim methods``: a frozen value that prints, draws, tabulates and saves itself."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from idim import plots
from idim.delta_tuning import picture
from idim.delta_tuning.cost import Cost
from idim.delta_tuning.row import MethodRow, remark
from idim.delta_tuning.table import html, markdown, record, terminal
from idim.errors import RequestError
from idim.files import replace_file, write_json

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class MethodsReport:
    """Every method on the same work.

    Attributes:
        definition: in words, what the scores are.
        D: parameters of the network, head included.
        chance: score of the best constant answer.
        head: how the fresh last layer is trained beside every method; None where there is none.
        recipe: optimizer, schedule, batches, steps, shared by all.
        rates: the rule by which each method's rate was found, in words.
        rows: one a method.
        costs: every cell that was measured; ``environment`` is where.
        transfer: by method, score by the task it was tuned on and the task it is scored on.
    """

    definition: str
    model: str
    task: str
    metric: str
    split: Mapping[str, str]
    D: int
    chance: float
    head: Mapping[str, Any] | None
    recipe: Mapping[str, Any]
    rates: str
    seeds: tuple[int, ...]
    rows: tuple[MethodRow, ...]
    costs: tuple[Cost, ...] = ()
    environment: Mapping[str, Any] | None = None
    transfer: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None
    trainings: int
    seconds: float
    versions: Mapping[str, str]

    @property
    def full(self) -> MethodRow | None:
        """The row of full tuning, if it was asked for."""
        return next((row for row in self.rows if row.method == "full"), None)

    def remark(self, row: MethodRow) -> str:
        """Return what stands beside a row."""
        return remark(row, self.full, self.chance)

    # -- as data ------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data."""
        shallow = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        rows = [row.to_json() | {"remark": self.remark(row)} for row in self.rows]
        costs = [cost.to_json() for cost in self.costs]
        return {"format": FORMAT, **shallow, "seeds": list(self.seeds), "rows": rows, "costs": costs}

    def to_frame(self) -> pd.DataFrame:
        """Return one row a method, numbers as numbers."""
        import pandas as pd

        return pd.DataFrame([record(row) | {"remark": self.remark(row)} for row in self.rows])

    # -- as pictures --------------------------------------------------------------------------

    def plot(self, ax: Axes) -> Axes:
        """Draw score against numbers trained on ``ax`` and return it."""
        return picture.scores(ax, self.rows, chance=self.chance, metric=self._metric)

    @property
    def _metric(self) -> str:
        return f"{self.metric} on the {self.split['report']} split"

    # -- as files -----------------------------------------------------------------------------

    def save(self, folder: Path | str) -> Path:
        """Write report.json, table.md and methods.png into ``folder``; each is whole or absent."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with replace_file(folder / "table.md") as temporary:
            temporary.write_text(f"{markdown(self)}\n")
        with plots.canvas(figsize=picture.sheet_size(self.rows)) as fig:
            picture.sheet(fig, self.rows, title=self.title, chance=self.chance, metric=self._metric)
            plots.save(fig, folder / "methods.png")
        if self.transfer:
            with plots.canvas(figsize=picture.map_size(self.transfer)) as fig:
                picture.transfers(fig, self.transfer, metric=self._metric)
                plots.save(fig, folder / "transfer.png")
        write_json(folder / "report.json", self.to_json())
        return folder

    @classmethod
    def load(cls, folder: Path | str) -> MethodsReport:
        """Read what :meth:`save` wrote.

        Raises:
            RequestError: when the folder holds no report, or one of a newer format.
        """
        path = Path(folder) / "report.json"
        try:
            content = dict(json.loads(path.read_text()))
            version = int(content.pop("format"))
            content["rows"] = tuple(MethodRow.from_json(row) for row in content["rows"])
            content["costs"] = tuple(Cost.from_json(cost) for cost in content["costs"])
            content["seeds"] = tuple(content["seeds"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RequestError(
                f"a folder written by `idim methods` holds report.json; received {folder}: {error}"
            ) from error
        if version > FORMAT:
            raise RequestError(f"this idim reads reports up to format {FORMAT}; received format {version} in {path}")
        return cls(**content)

    # -- as text ------------------------------------------------------------------------------

    @property
    def title(self) -> str:
        """What was tuned on what."""
        return f"{self.model} on {self.task}, D = {self.D:,}"

    def __str__(self) -> str:
        """Return a table that fits a terminal of 80 columns."""
        return terminal(self)

    def _repr_html_(self) -> str:
        with plots.figure(figsize=(8, 5)) as (fig, ax):
            self.plot(ax)
            return html(self, picture.embedded(fig))
