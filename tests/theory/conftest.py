"""Fixtures of the bounds: a store of finished runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from bound_cases import full, spec_of

from idim.runs import Serial, Store


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store with two seeds at one d, another d, another network and full training."""
    path = tmp_path_factory.mktemp("bounds") / "store"
    specs = [spec_of(), spec_of(seed=1), spec_of(100), spec_of(model="linear"), full()]
    with Store(path) as opened, Serial(opened) as engine:
        engine.map(specs)
    return path
