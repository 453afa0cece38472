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


def results(*parts: str, maker: str) -> Path:
    """Return a file or folder of the stored results.

    Raises:
        MissingRuns: when it is not there; ``maker`` is the module that makes it, with its arguments.
    """
    path = DESK.get().experiments.joinpath("results", *parts)
    if not path.exists():
        raise MissingRuns(f"a figure needs {path}, which is missing: python -m experiments.{maker} makes it")
    return path


def stored(experiment: str) -> dict[str, DimensionResult]:
    """Return the results of an experiment by label.

    Raises:
        MissingRuns: when there is none.
        RequestError: when one cannot be read.
    """
    folder = results(experiment, maker=f"run {experiment}")
    return {report.parent.name: DimensionResult.load(report.parent) for report in sorted(folder.glob("*/report.json"))}


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
    """
    return json.loads(results("spectra", f"{name}.json", maker=maker).read_text())


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
