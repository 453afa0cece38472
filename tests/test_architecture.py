"""The floors of the house: an import points to a lower floor or stays inside its own folder."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "idim"

FLOORS = [
    {"errors"},
    {"files"},
    {"kernels", "parameters", "tasks", "models", "plots"},
    {"projections"},
    {"subspace"},
    {"learned", "methods", "spectral"},
    {"runs"},
    {"dimension", "theory"},
    {"cli"},
    {"__main__"},
]
FLOOR = {name: level for level, names in enumerate(FLOORS) for name in names}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room(path: Path) -> str:
    """Return the top-level module or folder of ``idim`` that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(source: str) -> set[str]:
    """Return the rooms of ``idim`` that a source imports, anywhere in it, lazily or not."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            if node.module == "idim":
                names |= {f"idim.{alias.name}" for alias in node.names}
            else:
                names.add(node.module)
    return {n.split(".")[1] for n in names if n.startswith("idim.") and n != "idim.__version__"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    own = room(path)
    assert own in FLOOR, f"{own} has no floor: add it to FLOORS"
    for other in imported_rooms(path.read_text()) - {own}:
        assert FLOOR[other] < FLOOR[own], f"{path.name}: {own} must not import {other}"


def test_relative_imports_are_not_used() -> None:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: write the full name"


def test_a_wrong_import_is_found() -> None:
    assert imported_rooms("def f():\n    from idim.runs.store import Store\n") == {"runs"}
    assert imported_rooms("from idim import projections\nimport idim.cli") == {"projections", "cli"}
