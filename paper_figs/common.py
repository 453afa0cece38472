"""What the figures share: stored results by name, and saving a picture with the numbers in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from idim import plots
from idim.dimension.result import DimensionResult
from idim.files import write_json

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "experiments" / "results"
FOLDER = ROOT / "paper_figs" / "drawn"


def stored(experiment: str) -> dict[str, DimensionResult]:
    """Return the results of an experiment by label.

    Raises:
        RequestError: when one cannot be read.
    """
    folders = sorted(report.parent for report in (RESULTS / experiment).glob("*/report.json"))
    return {folder.name: DimensionResult.load(folder) for folder in folders}


def save(fig: Figure, name: str, numbers: Any) -> None:
    """Write NAME.png, NAME.pdf and the plotted numbers as NAME.json."""
    FOLDER.mkdir(exist_ok=True)
    for kind in ("png", "pdf"):
        plots.save(fig, FOLDER / f"{name}.{kind}")
    write_json(FOLDER / f"{name}.json", numbers)


def answer(result: DimensionResult) -> dict[str, Any]:
    """Return the plotted numbers of one result."""
    return {"d_int": result.d_int, "ci95": list(result.to_dict()["ci95"]), "D": result.D, "bar": result.bar["value"]}
