"""Figures: drawn from committed results, always the same bytes, with the numbers of the runs; what is said if not."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from experiments import methods, run
from idim import figures, plots
from idim.cli import main
from idim.dimension.result import DimensionResult
from idim.errors import RequestError
from idim.runs import table
from paper_figs import gallery
from paper_figs.common import COMMITTED, Desk, at

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("png", "pdf", "json")
QUICK = ("gressmann", "li_grid", "lora_amplification", "kinds")
WIDTHS = {round(300 * plots.COLUMN), round(300 * plots.PAGE)}  # dots


def draw(name: str, out: Path) -> None:
    """Draw one figure into a folder."""
    with at(Desk(out=out)):
        gallery.FIGURES[name]()


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", gallery.FIGURES)
def test_the_numbers_of_a_figure_are_those_it_would_have_today(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots, "save", lambda fig, path: path.touch())  # the picture is another test's
    draw(name, tmp_path)
    assert sorted(files(tmp_path)) == sorted(f"{name}.{kind}" for kind in KINDS)
    drawn = COMMITTED.out / f"{name}.json"
    assert json.loads((tmp_path / f"{name}.json").read_text()) == json.loads(drawn.read_text()), (
        f"results have changed since {drawn.name} was drawn: python -m paper_figs {name}"
    )


def same_twice(name: str, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        draw(name, tmp_path / folder)
    first = files(tmp_path / "one")
    assert sorted(first) == sorted(f"{name}.{kind}" for kind in KINDS)
    assert first == files(tmp_path / "two")


@pytest.mark.parametrize("name", QUICK)
def test_a_figure_drawn_twice_has_the_same_bytes(name: str, tmp_path: Path) -> None:
    same_twice(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in gallery.FIGURES if name not in QUICK])
def test_every_figure_drawn_twice_has_the_same_bytes(name: str, tmp_path: Path) -> None:
    same_twice(name, tmp_path)


def test_every_committed_picture_has_the_width_of_one_column_or_two() -> None:
    widths = {path.stem: int.from_bytes(path.read_bytes()[16:20], "big") for path in COMMITTED.out.glob("*.png")}
    assert widths.keys() >= gallery.FIGURES.keys()
    assert {name: width for name, width in widths.items() if width not in WIDTHS} == {}


RESULTS = COMMITTED.experiments / "results"
YAMLS = {path.stem for path in COMMITTED.experiments.glob("*.yaml")} - {"methods"}
MEASURED = sorted(YAMLS & {path.name for path in RESULTS.iterdir()})


@pytest.mark.parametrize("experiment", MEASURED)
def test_every_score_of_a_report_is_that_of_a_stored_run(experiment: str) -> None:
    requests = run.requests(experiment)
    for label in requests.keys() & {path.parent.name for path in RESULTS.glob(f"{experiment}/*/report.json")}:
        report, store = DimensionResult.load(RESULTS / experiment / label), requests[label].store
        assert store is not None
        scores = stored_scores(store, report)
        asked = {(p.d, p.lr, seed): score for p in report.curve for seed, score in p.scores.items()}
        assert {key: score for key, score in asked.items() if score not in scores.get(key, ())} == {}, label


def stored_scores(store: Path, report: DimensionResult) -> Mapping[tuple[int, float, int], set[float]]:
    """Return the scores of a store's runs like those of a report, by d, rate and seed."""
    columns = ("spec.d", "spec.lr", "spec.seed", "result.score")
    found = table.select(store, columns, task=report.task, model=report.model, projection=report.projection)
    scores: dict[tuple[int, float, int], set[float]] = {}
    for d, lr, seed, score in found.dropna(subset=["spec.d"]).itertuples(index=False):
        scores.setdefault((int(d), float(lr), int(seed)), set()).add(score)
    return scores


# -- the command -----------------------------------------------------------------------------------


def served(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as leaving:
        main(["figures", *arguments])
    return leaving.value.code, *capsys.readouterr()  # type: ignore[return-value]


def test_a_figure_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "figures"
    assert served(capsys, "gressmann", "--out", str(out)) == (
        0, f"drew gressmann\nwrote pdf, png and the numbers as json in {out}\n", "",
    )  # fmt: skip
    assert sorted(files(out)) == ["gressmann.json", "gressmann.pdf", "gressmann.png"]
    assert served(capsys, "gressmann", "--out", str(out), "--quiet") == (0, "", "")


def test_results_of_another_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = json.loads((COMMITTED.experiments / "results" / "gressmann" / "fc" / "report.json").read_text())
    report["curve"][0]["scores"]["0"] = 0.123
    folder = tmp_path / "mine" / "results" / "gressmann" / "fc"
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(report))
    served(capsys, "gressmann", "--store", str(tmp_path / "mine"), "--out", str(tmp_path))
    assert json.loads((tmp_path / "gressmann.json").read_text())["ours"][0] == 0.123


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["li_gird"], "unknown figure 'li_gird'; did you mean 'li_grid'? Known: bounds, budget, "),
        (["kinds", "li_gird"], "unknown figure 'li_gird'"),
        (["--store", "nowhere"], "store must be a folder with results/ in it, as experiments/ is; received nowhere"),
    ],
)
def test_what_cannot_be_drawn(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = served(capsys, *arguments, "--out", str(tmp_path / "out"))
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir()), "refused before anything is made"


@pytest.mark.parametrize("name", gallery.FIGURES)
def test_a_figure_without_its_runs_says_what_makes_them(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results").mkdir()
    code, out, err = served(capsys, name, "--store", str(tmp_path), "--out", str(tmp_path))
    assert (code, out) == (2, "")
    made = re.fullmatch(r"idim: a figure needs .*, which is missing: (python -m experiments\..*) makes it\n", err)
    assert made
    module, *argument = made[1].split()[2:]
    assert (ROOT / f"{module.replace('.', '/')}.py").is_file()
    known = run.requests(*argument) if module == "experiments.run" else methods.tables()
    assert known
    assert module != "experiments.methods" or argument[0] in known


def test_a_figure_with_some_of_its_runs_says_which_it_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results" / "toy" / "toy").mkdir(parents=True)
    assert (
        "/toy/LABEL/report.json, which is missing"
        in served(capsys, "toy", "--store", str(tmp_path), "--out", str(tmp_path))[2]
    )
    shutil.copy(RESULTS / "toy" / "toy" / "report.json", tmp_path / "results" / "toy" / "toy")
    code, _, err = served(capsys, "toy", "--store", str(tmp_path), "--out", str(tmp_path / "out"))
    assert code == 2
    assert "/toy/rank5, which is missing: python -m experiments.run toy" in err
    (tmp_path / "results" / "toy" / "toy" / "report.json").write_text("{")
    code, _, err = served(capsys, "toy", "--store", str(tmp_path), "--out", str(tmp_path / "out"))
    assert (code, err.count("\n")) == (2, 1)


def test_all_figures_without_any_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results").mkdir()
    code, _, err = served(capsys, "--store", str(tmp_path), "--out", str(tmp_path))
    assert code == 0
    assert err.count("left out ") == err.count("\n") == len(gallery.FIGURES)


def test_outside_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "__file__", str(tmp_path / "site-packages" / "idim" / "figures.py"))
    monkeypatch.chdir(ROOT)
    assert figures.checkout() == ROOT
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match=f"the installed package leaves out; received the folder {tmp_path}"):
        figures.checkout()


def test_the_page_shows_every_figure() -> None:
    page: Any = (ROOT / "docs" / "figures.md").read_text()
    shown = set(re.findall(r"\]\(\.\./paper_figs/drawn/(\w+)\.png\)", page))
    assert shown >= gallery.FIGURES.keys()
    assert shown <= gallery.FIGURES.keys()
