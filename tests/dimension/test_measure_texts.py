from __future__ import annotations

from pathlib import Path

import pytest
from text_cases import sentences, tiny_bert, write_csv

from idim.dimension.measure import measure
from idim.dimension.request import MeasureRequest
from idim.dimension.result import DimensionResult
from idim.errors import RequestError
from idim.runs import Store

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a small encoder and a table of texts."""
    folder = tmp_path_factory.mktemp("measured")
    tiny_bert(folder / "bert")
    write_csv(folder / "texts.csv", sentences(300))  # type: ignore[arg-type]
    return folder


def quick(place: Path, out: Path, **options: object) -> DimensionResult:
    asked = {"bar": "absolute:0.75", "dims": "3,60", "seeds": 1, "steps": 40, "lr": "1.0/sqrt(d)", "length": 32}
    return measure(
        model=str(place / "bert"), task=f"csv:{place / 'texts.csv'}", engine="serial", quiet=True,
        out=out / "out", **(asked | options),
    )  # fmt: skip


def test_d_int_of_tuning_says_what_becomes_of_the_head(place: Path, tmp_path: Path) -> None:
    result = quick(place, tmp_path)
    assert result.head == {"kind": "trained", "lr": 1e-3}
    assert "with its fresh last layer trained directly and not counted in d" in result.definition
    assert "the head is trained directly at lr 0.001" in str(result)
    assert result.protocol["length"] == 32
    again = DimensionResult.load(result.save(tmp_path / "saved"))
    assert again == result
    whole = quick(place, tmp_path, head="inside", dims="3")
    assert whole.D == result.D + 2 * 17, "D is what P moves"
    assert whole.head == {"kind": "inside", "lr": None}


def test_options_reach_the_runs(place: Path, tmp_path: Path) -> None:
    options = {"batch": 8, "accumulate": 2, "weight_decay": 0.1, "dropout": True, "head": "frozen", "dims": "3"}
    quick(place, tmp_path, steps=2, **options)
    with Store.read(tmp_path / "store") as store:
        (row,) = store.rows()
    recipe = row["spec"]["recipe"]
    assert (recipe["batch_size"], recipe["accumulate"], recipe["l2"], recipe["dropout"]) == (8, 2, 0.1, True)
    assert row["spec"]["head"] == "frozen"


def test_the_rate_of_the_reference_can_be_given(place: Path, tmp_path: Path) -> None:
    options = {"bar": "above-chance:0.5", "reference_seeds": 2, "reference_lr": 1e-2, "dims": "3"}
    result = quick(place, tmp_path, **options)
    assert (result.reference["lr"], result.reference["n"], result.reference["tried"]) == (1e-2, 2, [])
    assert result.trainings == 3
    with pytest.raises(RequestError, match="reference_lr must be finite and above 0; received -1"):
        MeasureRequest(reference_lr=-1)


def test_reports_from_before_heads_are_read(place: Path, tmp_path: Path) -> None:
    import json

    folder = quick(place, tmp_path, steps=2, dims="3", head="inside").save(tmp_path / "old")
    report = json.loads((folder / "report.json").read_text())
    del report["head"]
    (folder / "report.json").write_text(json.dumps(report))
    assert DimensionResult.load(folder).head == {"kind": "inside", "lr": None}


def test_a_head_that_there_is_not_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="needs a network with a module named 'head'; received 'mlp:5'"):
        measure(model="mlp:5", task="digits", head="trained", out=tmp_path / "out")
    with pytest.raises(RequestError, match="head_lr needs head 'trained'; received head 'inside'"):
        measure(model="mlp:5", task="digits", head_lr=0.1, out=tmp_path / "out")
    with pytest.raises(RequestError, match="head_lr must be finite and above 0; received 0"):
        MeasureRequest(head_lr=0)
