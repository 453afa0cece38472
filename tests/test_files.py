from __future__ import annotations

import json
from pathlib import Path

import pytest

from idim.errors import RequestError
from idim.files import replace_file, writable_folder, write_json


def test_a_file_is_whole_or_absent(tmp_path: Path) -> None:
    with pytest.raises(KeyError), replace_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with replace_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("whole")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "r.json", {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "r.json", {"a": float("nan")})
    assert json.loads((tmp_path / "r.json").read_text()) == {"a": 1}


def test_a_folder_that_cannot_be_written_is_found_first(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match="output folder must be writable; received"):
        writable_folder(tmp_path / "file" / "out")
    assert writable_folder(tmp_path / "new" / "out").is_dir()
