"""The floors of the house: an import points to a lower floor or stays inside its own folder."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "idim"

FLOORS = [
    {"errors"},
    {"files", "hub"},
    {"kernels", "parameters", "tasks", "models", "plots"},
    {"projections"},
    {"subspace"},
    {"methods", "spectral"},
    {"runs"},
    {"delta_tuning", "dimension", "figures", "learned", "theory"},
    {"comparison"},
    {"cli"},
    {"__main__"},
]
FLOOR = {name: level for level, names in enumerate(FLOORS) for name in names}
SPECTRAL_ROOMS = [
    "plain",
    "reading",
    "pairing",
    "decomposition",
    "noise",
    "judgement",
    "comparison",
    "report",
    "request",
    "spectrum",
]
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room(path: Path) -> str:
    """Return the top-level module or folder of ``idim`` that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(source: str) -> set[str]:
    """Return the modules and names of ``idim`` that a source imports, anywhere in it, lazily or not."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {n for n in names if n.startswith("idim.") and n != "idim.__version__"}


def imported_rooms(source: str, folder: str = "idim") -> set[str]:
    """Return the rooms of a folder that a source imports."""
    inside = {n.removeprefix(f"{folder}.") for n in imported_modules(source) if n.startswith(f"{folder}.")}
    return {n.split(".")[0] for n in inside}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    own = room(path)
    assert own in FLOOR, f"{own} has no floor: add it to FLOORS"
    for other in imported_rooms(path.read_text()) - {own}:
        assert FLOOR[other] < FLOOR[own], f"{path.name}: {own} must not import {other}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "spectral").rglob("*.py")), ids=lambda p: p.stem)
def test_the_rooms_of_spectral_import_earlier_ones(path: Path) -> None:
    own = path.relative_to(PACKAGE / "spectral").parts[0].removesuffix(".py")
    others = imported_rooms(path.read_text(), "idim.spectral") - {own}
    assert own == "__init__" or own in SPECTRAL_ROOMS, f"{own} has no place: add it to SPECTRAL_ROOMS"
    assert all(SPECTRAL_ROOMS.index(other) < SPECTRAL_ROOMS.index(own) for other in others), f"{own}: {others}"


def test_relative_imports_are_not_used() -> None:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: write the full name"


def test_a_wrong_import_is_found() -> None:
    assert imported_rooms("def f():\n    from idim.runs.store import Store\n") == {"runs"}
    assert imported_rooms("from idim import projections\nimport idim.cli") == {"projections", "cli"}
    assert imported_rooms("from idim.spectral import picture", "idim.spectral") == {"picture"}
    assert imported_rooms("from idim.spectral.report.table import rows", "idim.spectral") == {"report"}
