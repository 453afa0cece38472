"""The runs of stores as one table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from idim.errors import RequestError
from idim.runs import Outcome, RunResult, RunSpec, Store, table

SpecMaker = Callable[..., RunSpec]


def result(score: float) -> RunResult:
    return RunResult(score=score, selection_score=1 / 3, train_loss=1e-300, D=10, trained=2, steps=3, seconds=0.5)


@pytest.fixture
def store(tmp_path: Path, spec: SpecMaker) -> Path:
    """Return a store with three runs that are done, one that failed and one that is cut off."""
    runs = [spec(seed=1), spec(d=5, seed=2), spec(d=7, seed=3, warmup=0.25)]
    with Store(tmp_path / "store") as store:
        store.start([*runs, spec(seed=8), spec(seed=9)])
        store.finish([Outcome(spec=run, result=result(run.seed / 7)) for run in runs])
        store.finish([Outcome(spec=spec(seed=8), message='no, "because"')])
    return tmp_path / "store"


def test_a_row_has_all_of_a_run(store: Path, spec: SpecMaker) -> None:
    rows = {row["spec.seed"]: row for row in table.read([store]).to_pylist()}
    assert sorted(rows) == [1, 2, 3, 8, 9]
    assert {seed: row["status"] for seed, row in rows.items()} == {
        1: "done", 2: "done", 3: "done", 8: "failed", 9: "running",
    }  # fmt: skip
    one = rows[2]
    wanted = spec(d=5, seed=2)
    assert one["key"] == wanted.key
    assert (one["spec.d"], one["spec.projection"], one["result.D"]) == (5, "uniform", 10)
    assert (one["result.score"], one["result.train_loss"]) == (2 / 7, 1e-300)
    assert rows[1]["spec.d"] is None
    assert (rows[8]["message"], rows[8]["result.score"]) == ('no, "because"', None)
    assert one["host"]
    assert one["versions.torch"]
    assert one["attempt"] == 1


def test_fields_that_rows_leave_out_are_at_their_default(store: Path) -> None:
    rows = {row["spec.seed"]: row for row in table.read([store]).to_pylist()}
    assert (rows[2]["spec.head"], rows[2]["spec.recipe.bucketed"], rows[2]["spec.recipe.warmup"]) == (
        "inside",
        False,
        0.0,
    )
    assert rows[3]["spec.recipe.warmup"] == 0.25


@pytest.mark.parametrize("kind", ["parquet", "json", "csv"])
def test_files_hold_the_table(store: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"runs.{kind}"
    runs = table.read([store])
    table.write(runs, path)
    readers = {"parquet": pd.read_parquet, "json": pd.read_json, "csv": pd.read_csv}
    frame = readers[kind](path, precise_float=True) if kind == "json" else readers[kind](path)  # type: ignore[operator]
    assert list(frame.columns) == runs.column_names
    assert list(frame["key"]) == runs.column("key").to_pylist()
    assert list(frame["result.score"].dropna()) == [s for s in runs.column("result.score").to_pylist() if s is not None]
    assert list(frame["message"].dropna()) == ['no, "because"']
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_the_same_store_gives_the_same_file(store: Path, tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        table.write(table.read([store]), tmp_path / name)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert len(json.loads((tmp_path / "a.json").read_text())) == 5


def test_a_run_of_two_stores_is_there_once_and_finished(store: Path, tmp_path: Path, spec: SpecMaker) -> None:
    with Store(tmp_path / "other") as other:
        other.start([spec(seed=9), spec(seed=1), spec(seed=4)])
        other.finish([Outcome(spec=spec(seed=9), result=result(0.9))])
    for places in ([store, tmp_path / "other"], [tmp_path / "other", store]):
        rows = {row["spec.seed"]: row for row in table.read(places).to_pylist()}
        assert len(rows) == table.read(places).num_rows == 6
        assert {seed: row["status"] for seed, row in rows.items()} == {
            1: "done", 2: "done", 3: "done", 4: "running", 8: "failed", 9: "done",
        }  # fmt: skip


def test_large_seeds_and_no_rows(tmp_path: Path, spec: SpecMaker) -> None:
    with Store(tmp_path / "store") as store:
        assert table.read([tmp_path / "store"]).num_rows == 0
        table.write(table.read([tmp_path / "store"]), tmp_path / "none.json")
        assert json.loads((tmp_path / "none.json").read_text()) == []
        store.start([spec(seed=2**70), spec(seed=1)])
    assert set(table.read([tmp_path / "store"]).column("spec.seed").to_pylist()) == {str(2**70), "1"}


def test_a_figure_asks_for_some_columns_of_some_runs(store: Path, tmp_path: Path) -> None:
    frame = table.select(store, ["spec.d", "result.score", "spec.head"], task="toy", method="subspace")
    assert {tuple(row) for row in frame.itertuples(index=False)} == {(5, 2 / 7, "inside"), (7, 3 / 7, "inside")}
    assert list(table.select(store, ["spec.seed"], d=None)["spec.seed"]) == [1]
    assert list(table.select(store, ["spec.seed"], **{"recipe.warmup": 0.25})["spec.seed"]) == [3]
    assert list(table.select(store, ["spec.seed", "key"], task="digits").columns) == ["spec.seed", "key"]
    whole = table.read([store]).to_pandas()
    for column in ("result.train_loss", "spec.lr", "spec.recipe.accumulate", "spec.recipe.dropout", "versions.torch"):
        expected = whole[whole.status == "done"].sort_values("key")[column]
        assert list(table.select(store, [column])[column]) == list(expected)


def test_what_cannot_be_asked(store: Path, tmp_path: Path) -> None:
    for columns, where in ((["spec.D"], {}), (["spec'); DROP TABLE runs; --"], {}), (["key"], {"x') OR (1": 1})):
        with pytest.raises(RequestError, match="unknown column"):
            table.select(store, columns, **where)
    with pytest.raises(RequestError, match=r"unknown kind of table '\.xls'"):
        table.write(table.read([store]), tmp_path / "a.xls")
    with pytest.raises(RequestError, match="which has none"):
        table.read([tmp_path])
    with pytest.raises(RequestError, match="must be writable"):
        table.write(table.read([store]), tmp_path / "nowhere" / "a.json")
