"""What the figures share: the desk they are drawn at, stored results by name, and saving a picture with its numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from idim import plots
from idim.delta_tuning.report import MethodsReport
from idim.dimension.result import DimensionResult
from idim.errors import RequestError
from idim.files import write_json

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Where figures read and write: a folder laid out as ``experiments/`` is, and one for pictures."""

    experiments: Path = ROOT / "experiments"
    out: Path = ROOT / "paper_figs" / "drawn"


COMMITTED = Desk()
DESK: ContextVar[Desk] = ContextVar("desk", default=COMMITTED)


class MissingRuns(RequestError):
    """A figure cannot be drawn, because the runs behind it are not there; the message says what makes them."""


@contextmanager
def at(desk: Desk) -> Iterator[None]:
    """Draw what is drawn inside at another desk."""
    token = DESK.set(desk)
    try:
        yield
    finally:
        DESK.reset(token)


class Results(dict[str, DimensionResult]):
    """The results of one experiment by label; one that is not there is a figure's missing run."""

    experiment: str

    def __missing__(self, label: str) -> DimensionResult:
        raise missing(DESK.get().experiments / "results" / self.experiment / label, f"run {self.experiment}")


def missing(path: Path, maker: str) -> MissingRuns:
    """Return the error for results that are not there; ``maker`` is the module that makes them, with its arguments."""
    return MissingRuns(f"a figure needs {path}, which is missing: python -m experiments.{maker} makes it")


def results(*parts: str, maker: str) -> Path:
    """Return a file or folder of the stored results.

    Raises:
        MissingRuns: when it is not there.
    """
    path = DESK.get().experiments.joinpath("results", *parts)
    if not path.exists():
        raise missing(path, maker)
    return path


def stored(experiment: str) -> Results:
    """Return the results of an experiment by label.

    Raises:
        MissingRuns: when there is none; on looking up a label that is not there.
        RequestError: when one cannot be read.
    """
    folder = results(experiment, maker=f"run {experiment}")
    reports = sorted(folder.glob("*/report.json"))
    found = Results((report.parent.name, DimensionResult.load(report.parent)) for report in reports)
    found.experiment = experiment
    if not found:
        raise missing(folder / "LABEL" / "report.json", f"run {experiment}")
    return found


def report(label: str) -> MethodsReport:
    """Return a stored table of ways of tuning.

    Raises:
        MissingRuns: when it is not there.
        RequestError: when it cannot be read.
    """
    return MethodsReport.load(results("methods", label, maker=f"methods {label}"))


def spectra(name: str, maker: str) -> Any:
    """Return the content of a JSON file of the spectra.

    Raises:
        MissingRuns: when it is not there.
        RequestError: when it is not JSON.
    """
    path = results("spectra", f"{name}.json", maker=maker)
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise RequestError(f"{path} must be JSON; received: {error}") from error


def save(fig: Figure, name: str, numbers: Any) -> None:
    """Write NAME.png, NAME.pdf and the plotted numbers as NAME.json."""
    folder = DESK.get().out
    folder.mkdir(parents=True, exist_ok=True)
    for kind in ("png", "pdf"):
        plots.save(fig, folder / f"{name}.{kind}")
    write_json(folder / f"{name}.json", numbers)


def answer(result: DimensionResult) -> dict[str, Any]:
    """Return the plotted numbers of one result."""
    return {"d_int": result.d_int, "ci95": list(result.to_dict()["ci95"]), "D": result.D, "bar": result.bar["value"]}
