"""Subspaces side by side: d_int where it is known, what a report holds, what is refused, and going on."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from cases_idx import idx

import idim
from idim.cli import main
from idim.comparison import finding
from idim.comparison.compare import compare, run_compare
from idim.comparison.contender import Contender
from idim.comparison.plan import planned
from idim.comparison.request import CompareRequest
from idim.errors import RequestError
from idim.learned.cost import Cost
from idim.learned.learning import learn_trajectory
from idim.learned.request import TrajectoryRequest
from idim.projections.basis_file import open_basis

CLASSES, PIXELS = 3, 6


def images(folder: Path, seed: int) -> str:
    """Write images of three blurred classes, their order another for every seed; return the name of the task."""
    numbers = np.random.default_rng(seed)
    centres = numbers.integers(0, 200, (CLASSES, PIXELS, PIXELS))
    folder.mkdir()
    for prefix, rows in (("train", 240), ("t10k", 60)):
        labels = np.arange(rows) % CLASSES
        pixels = np.clip(centres[labels] + numbers.integers(0, 56, (rows, PIXELS, PIXELS)), 0, 255).astype(np.uint8)
        idx(folder / f"{prefix}-images-idx3-ubyte.gz", pixels.tobytes(), rows, PIXELS, PIXELS)
        idx(folder / f"{prefix}-labels-idx1-ubyte.gz", labels.astype(np.uint8).tobytes(), rows)
    return f"idx:{folder}"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    place = tmp_path_factory.mktemp("tasks")
    return [images(place / f"task-{seed}", seed) for seed in range(4)]


def asked(folders: list[str], out: Path, **changes: object) -> CompareRequest:
    plain = CompareRequest(
        task=folders[0], model="mlp:6", kinds="hadamard,said,burn-in,lottery,trajectory,hessian,gradients,deltas",
        dims="2,6,8", unseen=folders[1], learn_from=f"{folders[2]},{folders[3]}", bar="0.9", seeds=2,
        reference_seeds=2, lr="2/sqrt(d)", reference_lr=0.01, steps=30, points=10, rows=50, engine="serial",
        out=out, quiet=True,
    )  # fmt: skip
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def test_d_int_is_the_rank_of_a_regression_in_every_subspace_that_holds_its_solutions(tmp_path: Path) -> None:
    found = compare(
        task="regression:4", kinds="hadamard,dense,hessian,gauss-newton,gradients", dims="1,2,3,4", seeds=1,
        bar="absolute:0.999999", engine="serial", out=tmp_path, quiet=True,
    )  # fmt: skip
    rows = {row.contender.kind: row for row in found.rows}
    assert {kind: row.results["regression:4"].d_int for kind, row in rows.items()} == dict.fromkeys(rows, 4)
    assert list(rows) == ["hadamard", "dense", "hessian", "gauss-newton", "gradients"]
    assert rows["hadamard"].contender.cost == Cost()
    assert rows["hessian"].contender.cost is not None
    assert rows["hessian"].contender.cost.rows > 0


def test_every_kind_is_measured_at_one_bar_here_and_on_unseen_tasks(folders: list[str], tmp_path: Path) -> None:
    request = asked(folders, tmp_path)
    report = run_compare(request)
    assert not report.left_out
    kinds = {row.contender.kind: row for row in report.rows}
    assert tuple(kinds) == request.wanted
    for kind, row in kinds.items():
        for task in (folders[0], folders[1]):
            found = row.results[task]
            assert found.bar["value"] == report.bar[task]["value"], kind
            assert all(set(point.scores) == ({0, 1} if row.contender.seeded else {0}) for point in found.curve)
    steps, batch = 30, 128
    assert kinds["trajectory"].contender.cost == Cost(runs=1, steps=steps, rows=steps * batch)
    assert kinds["burn-in"].contender.cost == Cost(runs=1, steps=3, rows=3 * batch)
    assert kinds["deltas"].contender.cost == Cost(runs=2, steps=2 * steps, rows=2 * steps * batch)
    assert kinds["gradients"].contender.cost == Cost(rows=50)
    assert kinds["deltas"].contender.most_d == 2, "one direction a task"
    assert sorted(kinds["said"].scores(folders[0])) == [6, 8], "two layers need more coordinates than 2"

    # the same numbers as a measure of its own gives
    alone = idim.measure(
        task=folders[0], model="mlp:6", projection=kinds["lottery"].contender.projection, dims="2,6,8", seeds=1,
        bar="0.9", reference_seeds=2, lr="2/sqrt(d)", reference_lr=0.01, steps=30, engine="serial", quiet=True,
        out=tmp_path / "alone",
    )  # fmt: skip
    assert [dict(point.scores) for point in alone.curve] == [
        dict(point.scores) for point in kinds["lottery"].results[folders[0]].curve
    ]

    # the trajectory is what learn makes of the same training
    learned = learn_trajectory(
        TrajectoryRequest(task=folders[0], model="mlp:6", lr=0.01, steps=30, points=10, out=tmp_path / "b.safetensors")
    )
    (mine,) = (tmp_path / "bases").glob("trajectory-*.safetensors")
    assert open_basis(mine).learned["values"] == pytest.approx(list(learned.values))

    # started again, it trains and finds nothing
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "bases").iterdir()}
    again = run_compare(request)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "bases").iterdir()} == before
    assert again.to_json() == report.to_json()

    # files, tables, pictures
    folder = report.save(tmp_path / "out")
    content = json.loads((folder / "report.json").read_text())
    assert [row["kind"] for row in content["rows"]] == list(kinds)
    assert content["rows"][4]["cost"]["bytes"] == mine.stat().st_size
    assert (folder / "compare.png").stat().st_size > 10_000
    assert max(map(len, str(report).splitlines())) <= 80
    assert "<table>" in report._repr_html_()
    assert len(report.to_frame()) == sum(
        len(p.scores) for row in report.rows for r in row.results.values() for p in r.curve
    )


def test_a_basis_from_a_file_has_one_seed_unless_it_fits_any(folders: list[str], tmp_path: Path) -> None:
    files = [tmp_path / "own.safetensors", tmp_path / "any.safetensors"]
    for path in files:
        learn_trajectory(
            TrajectoryRequest(
                task=folders[0], model="mlp:6", lr=0.01, steps=8, points=4, out=path, fits_any=path is files[1]
            )
        )
    kinds = ",".join(f"basis:{path}" for path in files)
    report = run_compare(asked(folders, tmp_path, kinds=kinds, dims="2,4", unseen=None, learn_from=None))
    own, fits = report.rows
    assert (own.contender.label, fits.contender.label) == ("own", "any")
    assert [set(point.scores) for point in own.results[folders[0]].curve] == [{0}, {0}]
    assert [set(point.scores) for point in fits.results[folders[0]].curve] == [{0, 1}, {0, 1}]
    assert own.contender.cost == Cost(runs=1, steps=8, rows=8 * 128)


def test_a_kind_that_cannot_be_found_is_left_out(
    folders: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: finding.Workshop) -> Contender:
        raise RequestError("the disk is gone")

    monkeypatch.setitem(finding.FOUND, "lottery", fails)
    report = run_compare(asked(folders, tmp_path, kinds="hadamard,lottery", unseen=None, learn_from=None))
    assert dict(report.left_out) == {"lottery": "the disk is gone"}
    assert "no lottery: the disk is gone" in str(report)


def test_what_cannot_work_is_refused_before_anything_trains(folders: list[str], tmp_path: Path) -> None:
    late: list[tuple[dict[str, object], str]] = [
        ({"unseen": folders[0]}, "must share no rows with those learned from"),
        ({"learn_from": f"{folders[0]},{folders[2]}"}, "must share no rows"),
        ({"unseen": "digits"}, r"must have the shape of .*, rows \[1, 6, 6\] and 3 outputs; received digits"),
        ({"kinds": "hadamard,hesian", "learn_from": None}, "unknown kind of subspace 'hesian'; did you mean 'hessian'"),
        ({"kinds": "basis:nowhere.safetensors", "learn_from": None}, "no such file"),
        ({"burn_in": 30}, "burn_in must be less than the 30 steps of full training; received 30"),
        ({"dims": "2,100000"}, "d must be between 1 and D = 243; received d = 100000"),
        ({"bar": "absolute:0.9", "reference_lr": None}, "needs a rate of full training"),
    ]
    for changes, message in late:
        with pytest.raises(RequestError, match=message):
            planned(asked(folders, tmp_path, **changes))
    early: list[tuple[dict[str, object], str]] = [
        ({"learn_from": None}, "learned from at least two other tasks"),
        ({"learn_from": folders[2]}, "learned from at least two other tasks"),
        ({"kinds": "hadamard"}, "or neither"),
        ({"kinds": "hadamard,hadamard"}, "each once; received 'hadamard' again"),
        ({"kinds": ","}, "at least one subspace"),
        ({"dims": "2,x"}, "dims must be integers"),
        ({"dims": "0,2"}, "integers from 1 up"),
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"reference_lr": 0.0}, "reference_lr must be finite and above 0"),
    ]
    for changes, message in early:
        with pytest.raises(RequestError, match=message):
            asked(folders, tmp_path, **changes)
    with pytest.raises(RequestError, match="kind 'trajectory' needs checkpoints on the way"):
        planned(CompareRequest(task="toy", kinds="trajectory"))
    assert not list(tmp_path.iterdir())


def test_the_command_prints_and_writes(folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "--model mlp:4 --kinds hadamard,gradients --dims 2,3 --seeds 1 --reference-seeds 1 --reference-lr 0.01"
    more = "--lr 0.3 --steps 5 --rows 20 --engine serial"
    with pytest.raises(SystemExit) as left:
        main(["subspace", "compare", "--task", folders[0], *words.split(), *more.split(), "--out", str(tmp_path)])
    assert left.value.code == 0
    said = capsys.readouterr().out
    assert "hadamard" in said
    assert "found at a cost of" in said
    assert f"wrote report.json, compare.png and the bases in {tmp_path}" in said
    assert json.loads((tmp_path / "report.json").read_text())["D"] == 36 * 4 + 4 + 4 * 3 + 3
