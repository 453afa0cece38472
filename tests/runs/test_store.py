from __future__ import annotations

import dataclasses
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from idim.errors import RequestError
from idim.runs import Outcome, RunResult, RunSpec, Store, database

SpecMaker = Callable[..., RunSpec]
RESULT = RunResult(score=0.1 + 0.2, selection_score=1 / 3, train_loss=1e-300, D=10, trained=2, steps=3, seconds=0.5)


def sql(path: Path, *statements: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path / "runs.sqlite", isolation_level=None)) as connection:
        return [row for statement in statements for row in connection.execute(statement)]


def refusal(path: Path, opening: Callable[[Path], Store] = Store) -> str:
    with pytest.raises(RequestError) as caught:
        opening(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as store:
        yield store


def test_what_is_kept_comes_back_bit_for_bit(tmp_path: Path, spec: SpecMaker) -> None:
    done, failed = Outcome(spec=spec(seed=1), result=RESULT), Outcome(spec=spec(seed=2), message="no, because")
    with Store(tmp_path / "deep" / "store") as store:
        store.start([done.spec, failed.spec])
        assert store.get(done.spec) is None
        store.finish([done, failed])
    with Store(tmp_path / "deep" / "store") as store:
        assert store.get(done.spec) == done
        assert store.get(done.spec).result.seconds == 0.5  # type: ignore[union-attr]
        assert store.get(failed.spec) == failed
        assert store.get(spec(seed=3)) is None
        assert sorted(store.outcomes(), key=lambda o: o.spec.seed) == [done, failed]
        assert store.counts() == {"done": 1, "failed": 1}
        assert store.summary().splitlines() == [
            f"{store.path}: 1 done, 0 running, 1 failed",
            "  full seed=2 failed: no, because",
        ]


def test_a_started_run_is_running_only_while_its_driver_is_there(tmp_path: Path, spec: SpecMaker) -> None:
    with Store(tmp_path / "store") as driver:
        driver.start([spec()])
        with Store.read(tmp_path / "store") as reader:
            assert reader.summary() == f"{reader.path}: 0 done, 1 running, 0 failed"
    with Store.read(tmp_path / "store") as reader:
        assert reader.summary() == f"{reader.path}: 0 done, 1 cut off, 0 failed"


def test_a_row_tells_where_it_was_made(store: Store, spec: SpecMaker) -> None:
    store.start([spec()])
    store.finish([Outcome(spec=spec(), result=RESULT)])
    (row,) = store.rows()
    assert row["key"] == spec().key
    assert RunSpec.from_json(row["spec"]) == spec()
    assert row["result"]["score"] == RESULT.score
    assert row["seconds"] == 0.5
    assert row["attempt"] == 1
    assert {"idim", "torch", "numpy", "python", "run"} <= set(row["versions"])
    assert row["host"]


def test_finished_rows_are_never_touched_again(store: Store, spec: SpecMaker) -> None:
    store.start([spec()])
    store.finish([Outcome(spec=spec(), result=RESULT)])
    before = store.rows()
    store.start([spec()])
    store.finish([Outcome(spec=spec(), message="later")])
    store.release()
    assert store.rows() == before


def test_running_rows_count_attempts_and_can_be_given_up(store: Store, spec: SpecMaker) -> None:
    store.start([spec()])
    store.start([spec()])
    assert [(row["status"], row["attempt"]) for row in store.rows()] == [("running", 2)]
    store.release()
    assert store.rows() == []


def test_the_disk_has_it_before_it_is_acknowledged(store: Store) -> None:
    settings = {
        name: store._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")
    }
    assert settings == {"journal_mode": "wal", "synchronous": 2}


def test_an_interrupted_commit_leaves_nothing_of_it(store: Store, spec: SpecMaker) -> None:
    def specs() -> Iterator[RunSpec]:
        yield spec(seed=1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.start(specs())
    assert store.rows() == []
    store.start([spec(seed=2)])


def test_one_writer_and_any_number_of_readers(store: Store, spec: SpecMaker) -> None:
    store.start([spec()])
    assert "one writer at a time; received" in refusal(store.path)
    with Store.read(store.path) as one, Store.read(store.path) as other:
        assert one.counts() == other.counts() == {"running": 1}
        store.finish([Outcome(spec=spec(), result=RESULT)])
        assert one.counts() == {"done": 1}
        with pytest.raises(RequestError, match="readonly"):
            one.release()


def test_a_writer_in_another_process_is_seen_and_its_death_frees_the_store(tmp_path: Path) -> None:
    script = "import sys; from idim.runs.store import Store; s = Store(sys.argv[1]); print('open', flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"open\n"
    assert "another process is writing" in refusal(tmp_path)
    other.kill()
    other.communicate()
    with Store(tmp_path):
        pass


def test_a_store_can_be_closed_and_opened_often(tmp_path: Path) -> None:
    for _ in range(3):
        with Store(tmp_path):
            pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lock", "runs.sqlite"]
    assert sql(tmp_path, "PRAGMA integrity_check") == [("ok",)]


def test_a_driver_killed_while_making_the_store_leaves_a_store(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / "runs.sqlite").touch()
    with Store(tmp_path) as store:
        assert store.counts() == {}


def test_a_newer_store_is_left_alone(tmp_path: Path) -> None:
    with Store(tmp_path):
        pass
    sql(tmp_path, f"UPDATE meta SET value = '{database.SCHEMA_VERSION + 1}' WHERE name = 'schema'")
    content = (tmp_path / "runs.sqlite").read_bytes()
    for opening in (Store, Store.read):
        line = refusal(tmp_path, opening)
        assert f"reads stores up to version {database.SCHEMA_VERSION}" in line
        assert f"of version {database.SCHEMA_VERSION + 1}" in line
    assert (tmp_path / "runs.sqlite").read_bytes() == content


def test_other_folders_and_files_are_no_stores(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("important")
    assert "which holds 'thesis.tex'" in refusal(tmp_path)
    assert "File exists" in refusal(tmp_path / "thesis.tex")
    assert "which has none" in refusal(tmp_path, Store.read)
    assert "which has none" in refusal(tmp_path / "nowhere", Store.read)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["thesis.tex"]


def _text(path: Path) -> None:
    (path / "runs.sqlite").write_text("not a database, but long enough to be read as the head of one " * 50)


def _other_program(path: Path) -> None:
    sql(path, "CREATE TABLE runs (a)")


def _marked_but_empty(path: Path) -> None:
    sql(path, f"PRAGMA application_id = {database.APPLICATION}")


def _half_meta(path: Path) -> None:
    sql(path, f"PRAGMA application_id = {database.APPLICATION}", "CREATE TABLE meta (name, value)")


def _folder(path: Path) -> None:
    (path / "runs.sqlite").mkdir()


@pytest.mark.parametrize("content", [_text, _other_program, _marked_but_empty, _half_meta, _folder])
def test_a_file_that_only_has_the_name_is_no_store(tmp_path: Path, content: Callable[[Path], None]) -> None:
    content(tmp_path)
    before = (tmp_path / "runs.sqlite").stat().st_size
    assert "runs.sqlite" in refusal(tmp_path)
    assert "runs.sqlite" in refusal(tmp_path, Store.read)
    assert (tmp_path / "runs.sqlite").stat().st_size == before


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc, a folder where nobody can write")
def test_a_folder_that_cannot_be_written_is_found_on_opening() -> None:
    assert "must be a writable folder; received /proc/self/store" in refusal(Path("/proc/self/store"))


def test_a_read_only_folder_is_found_on_opening(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("this user may write anywhere")
        assert "must be a writable folder; received" in refusal(tmp_path)
    finally:
        tmp_path.chmod(0o755)


def test_a_full_disk_is_found_on_opening(tmp_path: Path) -> None:
    """A limit on file sizes stands in for a disk with less than a megabyte left."""
    script = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, resource.RLIM_INFINITY))
from idim.errors import RequestError
from idim.runs.store import Store
try:
    Store(sys.argv[1])
except RequestError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "must be a writable folder; received" in done.stdout
    assert done.stdout.count("\n") == 1


def test_a_disk_that_fills_up_later_is_one_line_and_loses_nothing(store: Store, spec: SpecMaker) -> None:
    store.start([spec()])
    store.finish([Outcome(spec=spec(), result=RESULT)])
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(RequestError, match="must stay readable and writable; received: database or disk is full"):
        store.start([spec(seed=seed, lr=0.1) for seed in range(100)])
    store._connection.execute("PRAGMA max_page_count = 100000")
    assert store.get(spec()) is not None
    assert store.counts() == {"done": 1}


def test_a_finished_store_can_be_read_where_nothing_can_be_written(
    tmp_path: Path, spec: SpecMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(tmp_path / "store") as store:
        store.start([spec()])
        store.finish([Outcome(spec=spec(), result=RESULT)])
    frozen = shutil.copytree(tmp_path / "store", tmp_path / "frozen")
    monkeypatch.setattr(database.os, "access", lambda *_: False)
    with Store.read(frozen) as store:
        assert store.get(spec()) == Outcome(spec=spec(), result=RESULT)
        assert sorted(p.name for p in frozen.iterdir()) == ["lock", "runs.sqlite"]


def test_artifacts_lie_under_the_hex_key(store: Store, spec: SpecMaker) -> None:
    odd = dataclasses.replace(spec(), model="../../etc")
    assert store.artifacts(odd).parent == store.path / "artifacts"
    int(store.artifacts(odd).name, 16)
