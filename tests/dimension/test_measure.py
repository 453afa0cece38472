"""The whole job on problems whose answer is known, and on digits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cases_idx import idx_folder

from idim import measure
from idim.dimension.result import DimensionResult
from idim.errors import RequestError
from idim.projections import KINDS
from idim.runs import RunResult, RunSpec, Store, TrainingFailed, engine
from idim.runs.train import train
from idim.tasks import Task

RANDOM_KINDS = sorted(set(KINDS) - {"basis", "decoder", "selector"})


def quick(tmp_path: Path, **options: object) -> DimensionResult:
    """Measure in this process, quietly, into a folder of its own."""
    given = {"engine": "serial", "quiet": True, "out": tmp_path / "out", "store": tmp_path / "store"}
    return measure(**(given | options))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", RANDOM_KINDS)
def test_toy_has_intrinsic_dimension_ten(kind: str, tmp_path: Path) -> None:
    result = quick(tmp_path, task="toy", projection=kind)
    assert result.D == 1000
    assert result.d_int == 10
    assert 8 <= result.ci95[0] <= result.ci95[1] == 10
    assert not result.censored


@pytest.mark.parametrize("rank", [1, 5, 20])
def test_regression_has_the_rank_of_its_inputs(rank: int, tmp_path: Path) -> None:
    result = quick(tmp_path, task=f"regression:{rank}")
    assert result.d_int == rank
    assert 0.8 * rank <= result.ci95[0] <= result.ci95[1] == rank


def test_a_selector_of_the_toy_needs_a_coordinate_in_every_block(tmp_path: Path) -> None:
    result = quick(tmp_path, task="toy", projection="selector", dims="10,300")
    by_d = {p.d: p.mean for p in result.curve}
    assert by_d[10] < 0.999999999 < by_d[300]


def test_digits_reports_everything_that_defines_the_number(tmp_path: Path) -> None:
    result = quick(tmp_path, steps=60, budget=10, seeds=2, reference_seeds=3)
    assert result.bar["kind"] == "fraction"
    assert result.bar["value"] == pytest.approx(0.9 * result.reference["mean"])
    assert result.reference["n"] == len(result.reference["scores"]) == 3
    assert {trial["d"] for trial in result.lr_rule["tried"]}
    assert result.lr_rule["rule"].startswith("lr(d) = c / sqrt(d)")
    assert result.trainings == sum(1 for _ in Store.read(tmp_path / "store").outcomes())
    assert all(p.lr == pytest.approx(result.lr_rule["constant"] / p.d**0.5) for p in result.curve)
    assert "initialisation, P and data order" in result.definition


def test_fixed_dims_are_measured_exactly(tmp_path: Path) -> None:
    result = quick(tmp_path, steps=30, dims="5,50", seeds=2, lr="0.05", bar="absolute:0.3")
    assert [p.d for p in result.curve] == [5, 50]
    assert all(sorted(p.scores) == [0, 1] for p in result.curve)
    assert {p.lr for p in result.curve} == {0.05}


def test_fixed_dims_that_all_pass_say_nothing_below_them(tmp_path: Path) -> None:
    result = quick(tmp_path, task="toy", dims="30,40")
    assert (result.d_int, result.ci95) == (30, (1, 30))


def test_a_bar_that_is_not_reached_is_censored_not_a_number(tmp_path: Path) -> None:
    result = quick(tmp_path, steps=5, dims="2,3", bar="absolute:0.99", lr="0.01")
    assert result.censored
    assert result.d_int is None
    assert "censored" in str(result)
    assert json.dumps(result.to_dict(), allow_nan=False)


def test_a_measure_that_is_asked_again_trains_nothing_and_agrees(tmp_path: Path) -> None:
    first = quick(tmp_path, task="toy")
    again = quick(tmp_path, task="toy")
    assert again == first
    attempts = {row["attempt"] for row in Store.read(tmp_path / "store").rows()}
    assert attempts == {1}


def test_processes_give_the_report_of_serial(tmp_path: Path) -> None:
    options = {"steps": 40, "budget": 8, "seeds": 2}
    serial = quick(tmp_path / "a", **options).to_dict()
    parallel = quick(tmp_path / "b", engine="processes", workers=3, **options).to_dict()
    serial.pop("seconds"), parallel.pop("seconds")
    assert parallel == serial


def test_a_training_that_fails_is_a_failed_row_and_the_search_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fragile(spec: RunSpec, task: Task, **options: object) -> RunResult:
        if spec.d == 5 or spec.seed == 1:
            raise TrainingFailed(f"the loss must stay finite; received nan at step 3 with lr {spec.lr:g}")
        return train(spec, task, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(engine, "train", fragile)
    result = quick(tmp_path, task="toy", dims="5,9,12", seeds=3, lr="0.5")
    assert [(p.d, sorted(p.scores)) for p in result.curve] == [(9, [0, 2]), (12, [0, 2])]
    assert result.d_int in (10, 11, 12)
    assert {p.lr for p in result.curve} == {0.5}, "a rate that is asked for is taken, by L-BFGS too"
    assert sorted((f["d"], f["seed"]) for f in result.failed) == [(5, 0), (5, 1), (5, 2), (9, 1), (12, 1)]
    assert all("with lr 0.5" in f["message"] for f in result.failed)
    assert "failed" in str(result)


def test_when_every_rate_fails_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"every training failed; the first: .*lr 1e\+30"):
        quick(tmp_path, steps=5, dims="5", seeds=1, lr="1e30", bar="absolute:0.3")
    rows = Store.read(tmp_path / "store").rows()
    assert [row["status"] for row in rows] == ["failed"]
    assert "1e+30" in rows[0]["message"]


def test_a_reference_at_chance_is_said_not_divided_by(tmp_path: Path) -> None:
    folder = idx_folder(tmp_path / "one-class", test_labels=[1] * 10)  # a constant answer is right always
    with pytest.raises(RequestError, match=r"needs a reference above chance; received reference .*, chance 1"):
        quick(tmp_path, task=f"idx:{folder}", model="mlp:8", steps=2, bar="above-chance:0.9", seeds=1)


def test_one_seed_still_narrows(tmp_path: Path) -> None:
    result = quick(tmp_path, steps=60, seeds=1, lr="2.4/sqrt(d)", bar="absolute:0.6", budget=14)
    assert max(len(p.scores) for p in result.curve) > 1
    assert "bracket" not in result.stopped


def test_a_result_survives_its_folder(tmp_path: Path) -> None:
    result = quick(tmp_path, task="toy")
    folder = result.save(tmp_path / "saved")
    assert DimensionResult.load(folder) == result
    assert json.loads((folder / "report.json").read_text()) == result.to_dict()
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert "d_int" in result._repr_html_()
    assert list(result.to_frame().columns) == ["d", "lr", "seed", "score"]
    assert max(len(line) for line in str(result).splitlines()) <= 80


def test_no_report_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"holds report\.json; received"):
        DimensionResult.load(tmp_path)


def test_a_search_that_spent_its_budget_early_claims_no_more_than_it_saw(tmp_path: Path) -> None:
    result = quick(tmp_path, steps=2, budget=1, seeds=1, lr="0.01", bar="absolute:0.99")
    assert result.censored
    assert f"not reached by d = {max(p.d for p in result.curve)}" in str(result)
    assert "budget" in result.stopped


def test_a_name_that_is_taken_by_a_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "report.json").mkdir()
    with pytest.raises(RequestError, match=r"report\.json must be writable; received"):
        quick(tmp_path, task="toy", dims="3", seeds=1).save(tmp_path)


@pytest.mark.parametrize("options", [{"seeds": 10**20}, {"budget": 10**20}, {"reference_seeds": 20_000}])
def test_counts_have_an_end(options: dict[str, int]) -> None:
    with pytest.raises(RequestError, match="must be at most"):
        measure(**options)  # type: ignore[arg-type]


def test_a_largest_d_above_D_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="d must be between 1 and D = 1000; received d = 1001"):
        quick(tmp_path, task="toy", d_max=1001)
