"""The page about methods names all of them, with the options they have and no others."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from idim import methods

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "methods.md").read_text()
ROWS = {m[1]: m[0] for m in re.finditer(r"^\| `(\w+)` \|.*$", PAGE.partition("## The methods")[2], re.MULTILINE)}


def test_every_method_has_its_row_and_no_other_has() -> None:
    assert ROWS.keys() == methods.METHODS.keys()


@pytest.mark.parametrize("name", sorted(methods.METHODS))
def test_options_that_are_named_exist(name: str) -> None:
    options = ROWS[name].split("|")[3]
    known = {field.name for field in dataclasses.fields(methods.METHODS[name])} | methods.METHODS.keys()
    assert set(re.findall(r"`(\w+)`", options)) <= known
    if "as `" not in options:
        defaults = {field.name: field.default for field in dataclasses.fields(methods.METHODS[name])}
        for option, said in re.findall(r"`(\w+)` \(([^)]+)\)", options):
            assert str(defaults[option]).lower() in (said, f"{said}.0")
