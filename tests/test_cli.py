"""The command line as a user meets it: what cannot be served is one line and status 2."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cases_idx import idx_folder

from idim.cli import main
from idim.runs import Store

BASE = ["measure", "--engine", "serial", "--quiet"]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the one line of a request that cannot be served, after checking that it is one."""
    with pytest.raises(SystemExit) as leaving:
        main(arguments)
    out, err = capsys.readouterr()
    assert leaving.value.code == 2
    assert out == ""
    assert err.startswith("idim: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--task", "digit"], "unknown task 'digit'; did you mean 'digits'?"),
        (["--model", "mpl:100"], "unknown model 'mpl'; did you mean 'mlp'?"),
        (["--projection", "hadamrd"], "unknown projection 'hadamrd'; did you mean 'hadamard'?"),
        (["--projection", "layerwise:fastfod"], "fastfood"),
        (["--model", "mlp:0"], "needs widths from 1 to 999999; received 'mlp:0'"),
        (["--dims", "0"], "d must be at least 1; received d = 0"),
        (["--dims", "100,99999"], "d must be between 1 and D = 7510; received d = 99999"),
        (["--bar", "1.5"], "the bar must be in (0, 1]; received 1.5"),
        (["--bar", "absolute:0"], "the bar must be in (0, 1]; received 0"),
        (["--bar", "abslute:0.5"], "did you mean 'absolute'?"),
        (["--bar", "high"], "received 'high'"),
        (["--bar", ""], "received ''"),
        (["--model", ""], "unknown model ''"),
        (["--lr", "1/sqrt(d)x"], "received '1/sqrt(d)x'"),
        (["--task", f"idx:{'a' * 300}"], "needs a folder of idx files"),
        (["--task", "idx:~no-such-user/x"], "needs a folder of idx files"),
        (["--task", "mnist", "--data", "a" * 300], "which does not exist"),
        (["--model", f"{'a' * 300}.py:f"], "which does not exist"),
        (["--seeds", "0"], "seeds must be at least 1; received 0"),
        (["--seeds", "many"], "'many'"),
        (
            ["--dims", "5", "--width", "0.1"],
            "the search, and dims '5' leaves none; received width 0.1",
        ),
        (["--dims", "5", "--budget", "7"], "received budget 7: leave one of them out"),
        (["--dims", "5", "--d-max", "7"], "received d_max 7: leave one of them out"),
        (["--workers", "3"], "received workers 3 with engine 'serial'"),
        (["--lr", "0"], "lr must be 'auto', a positive number, or one such as 2.4/sqrt(d); received '0'"),
        (["--protocol", "li2019"], "li2018"),
        (["--sedes", "3"], "--seeds"),
        (["--model", "lenet"], "model 'lenet' needs images"),
        (["--task", "regression:0"], "rank of regression must be between 1 and 1000; received 0"),
    ],
)
def test_bad_requests(arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert said in refused(capsys, *BASE, "--out", str(out), *arguments)
    assert not out.exists(), "nothing may be half-written"


def test_missing_data_says_where_and_how(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, *BASE, "--task", "mnist", "--data", str(tmp_path))
    assert str(tmp_path / "mnist") in line
    assert "--data DIR" in line
    assert "IDIM_DATA" in line


def test_broken_idx_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert "train-images" in refused(capsys, *BASE, "--task", f"idx:{tmp_path / 'empty'}")
    cut = idx_folder(tmp_path / "cut", held=39)
    assert "bytes of values; received" in refused(capsys, *BASE, "--task", f"idx:{cut}")
    odd = idx_folder(tmp_path / "odd", labels=39)
    line = refused(capsys, *BASE, "--task", f"idx:{odd}")
    assert "40 images" in line
    assert "39 labels" in line


def test_stores_that_are_not_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "runs.sqlite").write_bytes(b"not a database at all, but long enough to look like one" * 50)
    out = ["--out", str(tmp_path / "out")]
    assert "store" in refused(capsys, *BASE, "--task", "toy", "--store", str(other), *out)
    newer = tmp_path / "newer"
    with pytest.raises(SystemExit) as leaving:
        main([*BASE, "--task", "toy", "--dims", "3", "--seeds", "1", "--store", str(newer), *out])
    assert leaving.value.code == 0
    with sqlite3.connect(newer / "runs.sqlite") as connection:
        assert connection.execute("UPDATE meta SET value = '999' WHERE name = 'schema'").rowcount == 1
    assert "of version 999: install a newer idim" in refused(
        capsys, *BASE, "--task", "toy", "--store", str(newer), *out
    )


def test_a_folder_that_cannot_be_written_is_found_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    store = tmp_path / "store"
    line = refused(capsys, *BASE, "--task", "toy", "--out", str(tmp_path / "file" / "out"), "--store", str(store))
    assert "output folder must be writable" in line
    assert not store.exists()


def program(*arguments: str, folder: Path) -> list[str]:
    """Return a command line of the program that writes into ``folder``."""
    places = ["--out", str(folder / "out"), "--store", str(folder / "store")]
    return [sys.executable, "-m", "idim", *arguments, *places]


def test_interrupted_is_130_and_keeps_what_is_finished(tmp_path: Path) -> None:
    command = program("measure", "--steps", "300", "--workers", "2", folder=tmp_path)
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=_listen_to_interrupts,
    )
    database = tmp_path / "store" / "runs.sqlite"
    deadline = time.monotonic() + 110
    while _done(database) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=50)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert _done(database) >= 2
    assert not (tmp_path / "out" / "report.json").exists()


def test_a_reader_that_has_seen_enough_ends_it_quietly(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    Store(tmp_path / "store").close()
    command = [sys.executable, "-m", "idim", "status", str(tmp_path / "store")]
    reading, writing = os.pipe()
    os.close(reading)  # as `| head` does once it has its lines
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def _listen_to_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _done(database: Path) -> int:
    if not database.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT count(*) FROM runs WHERE status = 'done'").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def test_help_needs_no_torch() -> None:
    code = "import sys; from idim.cli import main\ntry: main(['--help'])\nfinally: assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "measure" in done.stdout


def test_status_shows_failures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "store"
    bad = [*BASE, "--steps", "5", "--dims", "5", "--seeds", "1", "--lr", "1e30", "--bar", "absolute:0.5"]
    assert "every training failed" in refused(capsys, *bad, "--store", str(store), "--out", str(tmp_path / "o"))
    with pytest.raises(SystemExit) as leaving:
        main(["status", str(store)])
    assert leaving.value.code == 0
    assert "1 failed" in capsys.readouterr().out
    assert "store" in refused(capsys, "status", str(tmp_path / "nowhere"))
    assert "which has none" in refused(capsys, "status", "a" * 300)


def test_a_complaint_is_one_line_without_a_frame_in_ascii_too() -> None:
    for encoding in ("utf-8", "ascii"):
        done = subprocess.run(
            [sys.executable, "-m", "idim", "measure", "--seeds", "0"],
            capture_output=True, text=True, check=False, env={**os.environ, "PYTHONIOENCODING": encoding},
        )  # fmt: skip
        assert done.returncode == 2
        assert done.stderr == "idim: seeds must be at least 1; received 0\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["learn", "trajectory", "--task", "digits", "--lr", "0.1", "--points", "0", "--out", "basis"],
            "points must be from 1 to 10,000; received 0",
        ),
        (["evaluate", "basis", "base"], "evaluate needs at least one tuned model; received none"),
    ],
)
def test_a_command_below_a_command_complains_without_saying_where_it_was_read(
    capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["subspace", *arguments])
    assert leaving.value.code == 2
    assert capsys.readouterr().err == f"idim: {line}\n"


def test_both_ways_of_starting_are_one_program() -> None:
    environment = {**os.environ, "COLUMNS": "80"}
    outputs = [
        subprocess.run([*command, "measure", "--help"], capture_output=True, text=True, env=environment, check=True)
        for command in ([sys.executable, "-m", "idim"], [sys.executable, "-c", "from idim.cli import main; main()"])
    ]
    assert outputs[0].stdout == outputs[1].stdout
    assert all(len(line) <= 80 for line in outputs[0].stdout.splitlines())
