"""The answer of a measure: a frozen value that prints, draws, tabulates and saves itself."""

from __future__ import annotations

import dataclasses
import html
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from idim import plots
from idim.errors import RequestError
from idim.files import write_json

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from idim.tasks.metrics import Metric

FORMAT = 1


@dataclass(frozen=True)
class CurvePoint:
    """The runs at one d: the learning rate and the report-split score of every seed."""

    d: int
    lr: float
    scores: Mapping[int, float]

    @property
    def mean(self) -> float:
        """The mean score over seeds."""
        return math.fsum(self.scores.values()) / len(self.scores)


@dataclass(frozen=True)
class DimensionResult:
    """d_int with its interval and everything that defines it.

    ``d_int`` is the smallest d whose expected score, over initialisation, P and data order
    together, reaches ``bar["value"]``; None when ``censored``. ``ci95`` is [lo, hi] with an
    infinite end where the bar was not bracketed. ``curve`` holds every run of the search;
    ``fit`` the fitted monotone curve as (d, score) pairs; ``failed`` what did not finish and why.

    Scores are the metric, or minus the natural logarithm of a perplexity; text and picture show the metric.
    ``falls`` is the measured d from which on scores are below the bar again and are not used: their learning rate is
    out of its range, as a rule. ``untuned`` is the score without training, where it was measured: of a decoder that
    foretells next tokens.
    """

    d_int: int | None
    ci95: tuple[float, float]
    censored: bool
    definition: str
    bar: Mapping[str, Any]
    reference: Mapping[str, Any]
    metric: Metric
    split: Mapping[str, str]
    projection: str
    D: int
    model: str
    task: str
    protocol: Mapping[str, Any]
    lr_rule: Mapping[str, Any]
    seeds: tuple[int, ...]
    curve: tuple[CurvePoint, ...]
    fit: tuple[tuple[float, float], ...]
    failed: tuple[Mapping[str, Any], ...]
    stopped: str
    trainings: int
    steps: int
    seconds: float
    versions: Mapping[str, str]
    head: Mapping[str, Any] = field(default_factory=lambda: {"kind": "inside", "lr": None})
    untuned: float | None = None
    falls: int | None = None

    # -- as data ------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data; an infinite end of the interval becomes null."""
        report: dict[str, Any] = {"format": FORMAT, **dataclasses.asdict(self)}
        report["ci95"] = [None if math.isinf(end) else end for end in self.ci95]
        report["curve"] = [
            {"d": p.d, "lr": p.lr, "scores": {str(s): v for s, v in sorted(p.scores.items())}} for p in self.curve
        ]
        report |= {"seeds": list(self.seeds), "failed": list(self.failed), "fit": [list(point) for point in self.fit]}
        return report

    def to_frame(self) -> pd.DataFrame:
        """Return one row a run: d, lr, seed, score."""
        import pandas as pd

        rows = [(p.d, p.lr, seed, score) for p in self.curve for seed, score in sorted(p.scores.items())]
        return pd.DataFrame(rows, columns=["d", "lr", "seed", "score"])

    # -- as a picture -------------------------------------------------------------------------

    def plot(self, ax: Axes) -> Axes:
        """Draw the curve on ``ax`` and return it."""
        from idim.dimension.bar import words
        from idim.tasks.metrics import shown

        def metric(score: float) -> float:
            return shown(self.metric, score)

        mean, std = self.reference["mean"], self.reference["std"] or 0.0
        plots.dimension_curve(
            ax,
            scores={p.d: [metric(score) for score in p.scores.values()] for p in self.curve},
            fit=([x for x, _ in self.fit], [metric(y) for _, y in self.fit]) if self.fit else None,
            bar=metric(self.bar["value"]),
            bar_label=f"bar: {words(self.bar, self.metric, short=True)}",
            interval=None if self.censored else self.ci95,
            d_int=self.d_int,
            reference=(metric(mean), metric(mean - std), metric(mean + std)) if self.reference["n"] else None,
            metric=f"{self.metric} on the {self.split['report']} split",
            falling=self.metric == "perplexity",
        )
        ax.set_title(f"{self.model} on {self.task}, {self.projection}: D = {self.D:,}")
        return ax

    # -- as files -----------------------------------------------------------------------------

    def save(self, folder: Path | str) -> Path:
        """Write report.json and curve.png into ``folder``; each is whole or absent."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with plots.figure() as (fig, ax):
            self.plot(ax)
            plots.save(fig, folder / "curve.png")
        write_json(folder / "report.json", self.to_dict())
        return folder

    @classmethod
    def load(cls, folder: Path | str) -> DimensionResult:
        """Read what :meth:`save` wrote.

        Raises:
            RequestError: when the folder holds no report, or one of a newer format.
        """
        path = Path(folder) / "report.json"
        try:
            report = dict(json.loads(path.read_text()))
            version = int(report.pop("format"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RequestError(
                f"a folder written by `idim measure` holds report.json; received {folder}: {error}"
            ) from error
        if version > FORMAT:
            raise RequestError(f"this idim reads reports up to format {FORMAT}; received format {version} in {path}")
        lo, hi = report["ci95"]
        report["ci95"] = (0.0 if lo is None else lo, math.inf if hi is None else hi)
        report["curve"] = tuple(
            CurvePoint(p["d"], p["lr"], {int(s): v for s, v in p["scores"].items()}) for p in report["curve"]
        )
        report["fit"] = tuple((x, y) for x, y in report["fit"])
        report |= {"seeds": tuple(report["seeds"]), "failed": tuple(report["failed"])}
        return cls(**report)

    # -- as text ------------------------------------------------------------------------------

    @property
    def headline(self) -> str:
        """The answer in one line."""
        return f"{self._name} = {self._answer}"

    @property
    def _name(self) -> str:
        share = self.bar["fraction"]
        return f"d_int{round(100 * share)}" if share is not None else "d_int"

    @property
    def _answer(self) -> str:
        lo, hi = self.ci95
        if self.censored or self.d_int is None:
            return f"not reached by d = {max(p.d for p in self.curve):,} (censored): at least {lo:,.0f}"
        high = "∞" if math.isinf(hi) else f"{hi:,.0f}"
        return f"{self.d_int:,}   95 % interval [{lo:,.0f}, {high}]"

    @property
    def _head_words(self) -> str:
        if self.head["kind"] == "inside":
            return ""
        how = f"trained directly at lr {self.head['lr']:g}" if self.head["kind"] == "trained" else "frozen"
        return f"; the head is {how}"

    def summary(self) -> list[tuple[str, str]]:
        """Return the report's head as (field, value) pairs."""
        from idim.dimension.bar import words

        share = f"   {self.D / self.d_int:,.0f} x fewer than D" if self.d_int else ""
        rows = [
            (self._name, self._answer),
            ("D", f"{self.D:,}{share}"),
            ("bar", words(self.bar, self.metric)),
            ("full training", self._measured),
            ("model, task", f"{self.model} on {self.task}; scores of the {self.split['report']} split"),
            ("projection", self.projection + self._head_words),
            ("learning rate", str(self.lr_rule["rule"])),
            ("work", f"{self.trainings} trainings, {self.steps:,} steps, {self.seconds:,.0f} s of training"),
        ]
        if self.falls is not None:
            again = f"from d = {self.falls:,} on scores are below the bar again; the estimate leaves these runs out"
            rows.append(("falls", again))
        if self.failed:
            first = self.failed[0]
            rows.append(("failed", f"{len(self.failed)} runs, first at d = {first['d']}: {first['message']}"))
        return rows

    @property
    def _measured(self) -> str:
        from idim.tasks.metrics import said

        ref, apart = self.reference, ""
        if self.untuned is not None:
            apart = f"; untuned {said(self.metric, self.untuned)}"
        if not ref["n"]:
            return f"not needed: absolute bar{apart}"
        spread = f"{ref['std'] or 0:.4f}{' of its logarithm' if self.metric == 'perplexity' else ''}"
        return f"{said(self.metric, ref['mean'])} ± {spread} ({ref['n']} runs){apart}"

    def curve_rows(self) -> list[tuple[str, ...]]:
        """Return the curve as text cells: d, lr, runs, mean, sd, whether the mean reaches the bar."""
        return [self._curve_row(p) for p in self.curve]

    def _curve_row(self, p: CurvePoint) -> tuple[str, ...]:
        """Return the cells of one d; the mean of perplexities is geometric, and their sd is that of the logarithm."""
        from idim.tasks.metrics import said

        n, mean = len(p.scores), p.mean
        sd = math.sqrt(math.fsum((v - mean) ** 2 for v in p.scores.values()) / (n - 1)) if n > 1 else math.nan
        reached = "yes" if mean >= self.bar["value"] else "no"
        spread = "" if math.isnan(sd) else f"{sd:.4f}"
        return f"{p.d:,}", f"{p.lr:.3g}", str(n), said(self.metric, mean), spread, reached

    def __str__(self) -> str:
        """Return a table that fits a terminal of 80 columns."""
        head = [f"{name:>14}  {value}" for name, value in self.summary()]
        cells = [CURVE_HEADS, *self.curve_rows()]
        widths = [max(len(row[i]) for row in cells) for i in range(len(CURVE_HEADS))]
        lines = ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in cells]
        rule = "  ".join("-" * w for w in widths)
        return "\n".join(line[:80] for line in [*head, "", lines[0], rule, *lines[1:]])

    def _repr_html_(self) -> str:
        head = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in self.summary())
        heads = "".join(f"<th>{h}</th>" for h in CURVE_HEADS)
        body = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in self.curve_rows())
        picture = f'<img alt="score against d" style="max-width:640px" src="data:image/png;base64,{self._picture()}">'
        return (
            f"<table>{head}</table>{picture}<details><summary>curve</summary>"
            f"<table><tr>{heads}</tr>{body}</table></details>"
        )

    def _picture(self) -> str:
        import base64
        import tempfile

        with tempfile.TemporaryDirectory() as folder, plots.figure() as (fig, ax):
            self.plot(ax)
            plots.save(fig, Path(folder) / "curve.png")
            return base64.b64encode((Path(folder) / "curve.png").read_bytes()).decode()


CURVE_HEADS = ("d", "lr", "runs", "mean", "sd", "reaches bar")
