"""The answer of ``spectrum``: a frozen value that prints, draws, tabulates and saves itself."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from idim import plots
from idim.errors import RequestError
from idim.files import replace_file, write_json
from idim.spectral.comparison.together import ModelComparison
from idim.spectral.judgement.matrix_report import MatrixReport, VectorReport
from idim.spectral.pairing.pairs import Skipped
from idim.spectral.plain import to_plain
from idim.spectral.report import picture, table
from idim.spectral.report.growth import Growth
from idim.spectral.report.modules import Module, modules_of
from idim.spectral.report.summary import Summary, summarize

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FORMAT = 1
LONG = "singular_values"  # lives in matrices.parquet: the JSON stays readable


@dataclass(frozen=True, kw_only=True)
class SpectrumReport:
    """What tuning changed, matrix by matrix and as a whole.

    Attributes:
        base, tuned: what was compared, as it was called.
        options: what the numbers depend on beside the models: patterns, seed, false-positive rate.
        matrices: one report a matrix, in the order of the base's names.
        vectors: norms of the tensors that are no matrices.
        skipped: what was left out, and why.
        comparison: with another model tuned from the same base, where one was given.
        growth: the same over checkpoints, where a folder of them was given.
        seconds: time the tensors took when they were judged, summed.
        versions: of idim, of the numbers, of the libraries.
    """

    base: str
    tuned: str
    options: Mapping[str, Any]
    matrices: tuple[MatrixReport, ...]
    vectors: tuple[VectorReport, ...]
    skipped: tuple[Skipped, ...]
    comparison: ModelComparison | None
    growth: Growth | None
    seconds: float
    versions: Mapping[str, str]

    @cached_property
    def modules(self) -> dict[str, Module]:
        """Kind and depth of every tensor, from its name."""
        shapes = {r.name: r.shape for r in self.matrices} | {r.name: r.shape for r in self.vectors}
        return modules_of(shapes)

    @cached_property
    def summary(self) -> Summary:
        """The whole model, each kind of module, each depth."""
        return summarize(self.matrices, self.modules)

    # -- as data ------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data, without the singular values."""
        return {
            "format": FORMAT,
            "base": self.base,
            "tuned": self.tuned,
            "options": dict(self.options),
            "summary": self.summary.to_json(),
            "matrices": [{k: v for k, v in r.to_json().items() if k != LONG} for r in self.matrices],
            "vectors": [r.to_json() for r in self.vectors],
            "skipped": [to_plain(row) for row in self.skipped],
            "comparison": None if self.comparison is None else self.comparison.to_json(),
            "growth": None if self.growth is None else self.growth.to_json(),
            "seconds": self.seconds,
            "versions": dict(self.versions),
        }

    def to_frame(self) -> pd.DataFrame:
        """Return one row a matrix: name, kind, depth, shape, norms, every measure, noise and null, verdict."""
        import pandas as pd

        return pd.DataFrame([_row(r, self.modules[r.name]) for r in self.matrices])

    # -- as text and picture ------------------------------------------------------------------

    def __str__(self) -> str:
        """Return a table that fits a terminal of 80 columns."""
        return table.text(self)

    def _repr_html_(self) -> str:
        return table.html(self, picture=self._png())

    def plot(self, figure: Figure) -> Figure:
        """Draw singular values, energy curves and the heat map of effective rank on ``figure``."""
        return picture.draw(
            figure,
            self.matrices,
            self.modules,
            title=f"{table.clipped(self.base, 50)} → {table.clipped(self.tuned, 50)}",
        )

    def _png(self) -> bytes:
        with plots.canvas(figsize=picture.SIZE) as figure:
            stream = io.BytesIO()
            self.plot(figure).savefig(stream, format="png")
            return stream.getvalue()

    # -- as files -----------------------------------------------------------------------------

    def save(self, folder: Path | str) -> Path:
        """Write report.json, matrices.parquet and spectrum.png, growth.png, comparison.png; each whole or absent."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, size, draw in self._pictures():
            with plots.canvas(figsize=size) as figure:
                plots.save(draw(figure), folder / name)
        with replace_file(folder / "matrices.parquet") as temporary:
            self.to_frame().to_parquet(temporary, index=False)
        write_json(folder / "report.json", self.to_json())
        return folder

    def _pictures(self) -> Iterator[tuple[str, tuple[float, float], Callable[[Figure], Figure]]]:
        """Yield file name, size and drawing of each picture there is something to draw for."""
        yield "spectrum.png", picture.SIZE, self.plot
        if self.growth is not None:
            yield "growth.png", picture.GROWTH_SIZE, self.growth.plot
        if self.comparison is not None and picture.has_map(self.comparison):
            yield "comparison.png", picture.COMPARISON_SIZE, partial(picture.draw_comparison, self.comparison)

    @classmethod
    def load(cls, folder: Path | str) -> SpectrumReport:
        """Read what :meth:`save` wrote.

        Raises:
            RequestError: when the folder holds no report, or one of another format.
        """
        import pandas as pd

        folder = Path(folder)
        try:
            report = json.loads((folder / "report.json").read_text())
            frame = pd.read_parquet(folder / "matrices.parquet", columns=["name", LONG])
        except (OSError, ValueError) as error:
            raise RequestError(f"the folder must hold a report of spectrum; received {folder}: {error}") from error
        if not isinstance(report, dict) or report.get("format") != FORMAT or "matrices" not in report:
            raise RequestError(f"the report must be a spectrum of format {FORMAT}; received {folder}")
        values = dict(zip(frame["name"], frame[LONG], strict=True))
        return cls(
            base=report["base"],
            tuned=report["tuned"],
            options=report["options"],
            matrices=tuple(
                MatrixReport.from_json(row | {LONG: list(values[row["name"]])}) for row in report["matrices"]
            ),
            vectors=tuple(VectorReport.from_json(row) for row in report["vectors"]),
            skipped=tuple(Skipped(**row) for row in report["skipped"]),
            comparison=None if report["comparison"] is None else ModelComparison.from_json(report["comparison"]),
            growth=None if report["growth"] is None else Growth.from_json(report["growth"]),
            seconds=report["seconds"],
            versions=report["versions"],
        )


def _row(report: MatrixReport, module: Module) -> dict[str, Any]:
    """Return a matrix as one flat row: the parts of noise and null keep their name in front."""
    plain = report.to_json()
    measures, noise, null = plain.pop("measures"), plain.pop("noise"), plain.pop("null")
    head = {"name": plain.pop("name"), "kind": module.kind, "depth": module.depth}
    named = {f"{part}_{k}": v for part, fields in (("noise", noise), ("null", null)) for k, v in fields.items()}
    values = plain.pop(LONG)
    return {**head, **plain, **measures, **named, LONG: values}
