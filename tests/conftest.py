"""Shared fixtures: the folder of real data, or a skip that says what is missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Return the folder of real data: IDIM_DATA, else shared/data beside the checkout."""
    folder = Path(os.environ.get("IDIM_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no data folder at {folder}; set IDIM_DATA to run this test")
    return folder
