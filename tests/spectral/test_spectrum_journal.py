"""The journal: whole lines are kept, a torn one is not, and another question has another file."""

from __future__ import annotations

from pathlib import Path

import pytest

from idim.errors import RequestError
from idim.spectral.judgement.journal import Journal

QUESTION = {"pair": "abc", "seed": 0}


def test_records_come_back(tmp_path: Path) -> None:
    with Journal(tmp_path, QUESTION) as journal:
        journal.keep("a", {"x": 0.1, "y": None})
        journal.keep("b", {"x": 1e300})
    with Journal(tmp_path, QUESTION) as journal:
        assert journal.records == {"a": {"x": 0.1, "y": None}, "b": {"x": 1e300}}


def test_another_question_has_another_file(tmp_path: Path) -> None:
    with Journal(tmp_path, QUESTION) as journal:
        journal.keep("a", {"x": 1})
    with Journal(tmp_path, QUESTION | {"seed": 1}) as other:
        assert other.records == {}
        assert other.path != journal.path


@pytest.mark.parametrize("torn", [b'{"name": "c", "rec', b"\x00\xff\n", b'{"name": "c"}\n', b"[1]\n", b"\n"])
def test_what_is_torn_or_altered_is_cut_off(torn: bytes, tmp_path: Path) -> None:
    with Journal(tmp_path, QUESTION) as journal:
        journal.keep("a", {"x": 1})
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole + torn)
    with Journal(tmp_path, QUESTION) as journal:
        assert journal.records == {"a": {"x": 1}}
        assert journal.path.read_bytes() == whole
        journal.keep("b", {"x": 2})
    with Journal(tmp_path, QUESTION) as journal:
        assert set(journal.records) == {"a", "b"}


def test_every_cut_leaves_the_whole_lines(tmp_path: Path) -> None:
    with Journal(tmp_path, QUESTION) as journal:
        journal.keep("a", {"x": 1})
        journal.keep("b", {"x": 2})
    whole = journal.path.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(len(whole) + 1):
        journal.path.write_bytes(whole[:cut])
        with Journal(tmp_path, QUESTION) as again:
            assert len(again.records) == (cut >= first) + (cut >= len(whole))


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "finished").write_text("in the way")
    with pytest.raises(RequestError, match="output folder must be writable"):
        Journal(tmp_path, QUESTION)
