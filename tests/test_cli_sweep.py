"""``sweep``, ``status`` and ``export`` as a user meets them, beginning with the example of their page."""

from __future__ import annotations

import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from idim.cli import main
from idim.runs import Store

PAGE = Path(__file__).parents[1] / "docs" / "sweep.md"
QUICK = "{task: digits, model: 'mlp:4', lr: 0.05, recipe: {steps: 5}, seed: {range: 2}, d: [null, 5]}"


def served(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what a request that can be served prints."""
    with pytest.raises(SystemExit) as leaving:
        main(arguments)
    out, err = capsys.readouterr()
    assert leaving.value.code == 0, err
    return out


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the one line of a request that cannot be served, after checking that it is one."""
    with pytest.raises(SystemExit) as leaving:
        main(arguments)
    out, err = capsys.readouterr()
    assert (leaving.value.code, out) == (2, "")
    assert err.startswith("idim: ")
    assert err.count("\n") == 1
    return err


def test_the_example_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    example, reserving = re.findall(r"```yaml[^\n]*\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "digits.yaml").write_text(example)
    commands = [
        line.partition("#")[0].split()[2:] for line in PAGE.read_text().splitlines() if line.startswith("$ idim")
    ]
    sweep = ["--engine", "serial", "--quiet", "--set", "recipe.steps=10"]
    assert commands[0] == ["sweep", "digits.yaml", "--dry-run"]
    assert "36 runs, 0 finished, 36 to train\nabout " in served(capsys, *commands[0])
    assert served(capsys, *commands[1], *sweep) == ""
    assert served(capsys, *commands[2]) == "runs: 36 done, 0 cut off, 0 failed\n"
    assert served(capsys, *commands[3]) == "wrote 36 runs to digits.parquet\n"
    frame = pd.read_parquet("digits.parquet")
    assert sorted(frame["spec.d"].dropna().unique()) == [10, 32, 100, 316, 1000]
    assert frame["result.score"].notna().all()
    (tmp_path / "reserving.yaml").write_text(reserving)
    assert served(capsys, "sweep", "reserving.yaml", "--dry-run").startswith("reserving.yaml: 2 runs, 0 finished")


def test_a_summary_unless_quiet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text(QUICK)
    arguments = ["sweep", str(tmp_path / "a.yaml"), "--engine", "serial", "--store", str(tmp_path / "s")]
    assert "a.yaml: 4 runs, 0 finished before, 4 trained now, 0 of them failed" in served(capsys, *arguments)
    grown = ["--set", "seed={range: 3}", "--set", "d=[null, 5, 6]"]
    assert "9 runs, 4 finished before, 5 trained now" in served(capsys, *arguments, *grown)
    assert served(capsys, *arguments, "--quiet") == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "sedes=3"], "unknown key 'sedes'"),
        (["--set", "d=99999"], "d must be between 1 and D = 310; received d = 99999"),
        (["--set", "seed={range: 1000001}"], "at most 1,000,000 values"),
        (["--set", "seed=[]"], "at least one value; received []"),
        (["--set", "task=mnist", "--data", "/no/such/folder"], "IDIM_DATA"),
        (["--shard", "9/8"], "received '9/8'"),
        (["--workers", "2"], "received workers 2 with engine 'serial'"),
        (["--reuse", "/no/such/store"], "which has none"),
        (["--engine", "rya"], "rya"),
    ],
)
def test_bad_sweeps(arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text(QUICK)
    store = tmp_path / "store"
    line = refused(capsys, "sweep", str(tmp_path / "a.yaml"), "--engine", "serial", "--store", str(store), *arguments)
    assert said in line
    if arguments[0] != "--reuse":
        assert not store.exists(), "nothing may be half-written"


def test_bad_files_and_stores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "No such file" in refused(capsys, "sweep", str(tmp_path / "none.yaml"))
    (tmp_path / "a.yaml").write_text(QUICK.replace("seed", "sede"))
    assert "a.yaml, line 1: unknown key 'sede'; did you mean 'seed'?" in refused(
        capsys, "sweep", str(tmp_path / "a.yaml")
    )
    (tmp_path / "a.yaml").write_text(QUICK)
    (tmp_path / "file").touch()
    sweep = ["sweep", str(tmp_path / "a.yaml"), "--engine", "serial"]
    assert "must be a writable folder" in refused(capsys, *sweep, "--store", str(tmp_path / "file"))
    with Store(tmp_path / "busy"):
        line = refused(capsys, *sweep, "--store", str(tmp_path / "busy"))
        assert "one writer at a time" in line
        assert "wait for it to end, or give another store" in line
        assert "36" in served(
            capsys, *sweep, "--dry-run", "--set", "seed={range: 18}", "--store", str(tmp_path / "busy")
        )


def test_bad_exports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store(tmp_path / "s").close()
    assert "export needs a file to write" in refused(capsys, "export", str(tmp_path / "s"))
    assert "must end in .json; received" in refused(capsys, "export", str(tmp_path / "s"), "--json", "a.txt")
    assert "which has none" in refused(capsys, "export", str(tmp_path), "--json", str(tmp_path / "a.json"))
    unwritable = str(tmp_path / "no" / "a.json")
    assert "must be writable" in refused(capsys, "export", str(tmp_path / "s"), "--json", unwritable)


def test_a_look_at_a_store_needs_no_torch(tmp_path: Path) -> None:
    Store(tmp_path / "s").close()
    code = "import sys; from idim.cli import main\ntry: main(sys.argv[1:])\nfinally: assert 'torch' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", code, "status", str(tmp_path / "s")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_interrupted_is_130_and_keeps_what_is_finished(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("{task: toy, lr: 1, seed: {range: 3000}, d: 50, projection: uniform}")
    command = [sys.executable, "-m", "idim", "sweep", str(tmp_path / "a.yaml"), "--store", str(tmp_path / "s")]
    process = subprocess.Popen(
        [*command, "--engine", "serial"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while _done(tmp_path / "s" / "runs.sqlite") < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in out + err
    assert "interrupted; what is finished is kept" in err
    with Store.read(tmp_path / "s") as store:
        assert store.counts()["done"] >= 2
        assert "running" not in store.counts()


def _done(path: Path) -> int:
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT count(*) FROM runs WHERE status = 'done'").fetchone()[0])
    except sqlite3.OperationalError:
        return 0
