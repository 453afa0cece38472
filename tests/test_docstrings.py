"""Examples in docstrings do what they show."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PATHS = [path.relative_to(ROOT) for path in sorted((ROOT / "idim").rglob("*.py")) if ">>> " in path.read_text("utf-8")]


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_examples_do_what_they_show(path: Path) -> None:
    found = doctest.testmod(importlib.import_module(".".join(path.with_suffix("").parts)))
    assert found.attempted
    assert not found.failed
