"""Notebooks are committed executed, and say what their sources say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
SOURCES = sorted(FOLDER.glob("*.py"))
LARGEST = 500_000  # bytes: pictures included


def cells(path: Path) -> list[dict[str, Any]]:
    """Return the cells of a notebook."""
    found: list[dict[str, Any]] = json.loads(path.with_suffix(".ipynb").read_text())["cells"]
    return found


def test_there_is_a_notebook_to_each_source() -> None:
    assert SOURCES
    assert {p.stem for p in SOURCES} == {p.stem for p in FOLDER.glob("*.ipynb")}


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_pairs_say_the_same(source: Path) -> None:
    jupytext = pytest.importorskip("jupytext", reason="the extra 'notebook' has jupytext")
    said = [(cell.cell_type, cell.source) for cell in jupytext.read(source).cells]
    assert said == [(cell["cell_type"], "".join(cell["source"])) for cell in cells(source)]


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_every_cell_was_executed_in_order_without_error(source: Path) -> None:
    code = [cell for cell in cells(source) if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert not [out for cell in code for out in cell["outputs"] if out["output_type"] == "error"]
    assert any("image/png" in str(cell["outputs"]) for cell in code), "a notebook shows a picture"
    assert source.with_suffix(".ipynb").stat().st_size < LARGEST
