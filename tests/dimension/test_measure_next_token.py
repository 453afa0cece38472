from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from text_cases import sentences, tiny_bert, tiny_decoder

from idim.dimension.measure import measure
from idim.dimension.result import DimensionResult
from idim.errors import RequestError
from idim.runs import Store

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a small decoder and a file of texts."""
    folder = tmp_path_factory.mktemp("measured")
    tiny_decoder(folder / "decoder")
    (folder / "texts.txt").write_text("\n".join(f"the {text} was a film" for text, _ in sentences(200)))
    return folder


def quick(place: Path, out: Path, **options: object) -> DimensionResult:
    asked = {"bar": "absolute:12", "dims": "3,300", "seeds": 2, "steps": 40, "lr": "2/sqrt(d)", "length": 12}
    return measure(
        model=str(place / "decoder"), task=f"lm:txt:{place / 'texts.txt'}", engine="serial", quiet=True,
        out=out / "out", **(asked | options),
    )  # fmt: skip


@pytest.fixture(scope="module")
def result(place: Path, tmp_path_factory: pytest.TempPathFactory) -> DimensionResult:
    """Return the measure of a bar that is not reached by 3 coordinates and is by 300."""
    return quick(place, tmp_path_factory.mktemp("result"))


def test_a_bar_of_perplexity_is_reached_from_above(result: DimensionResult) -> None:
    assert result.metric == "perplexity"
    assert result.head == {"kind": "inside", "lr": None}, "a decoder has its own output layer"
    assert result.bar == {
        "kind": "absolute", "fraction": None, "value": pytest.approx(-math.log(12)), "perplexity": pytest.approx(12),
    }  # fmt: skip
    assert result.d_int is not None
    assert 3 < result.d_int <= 300
    assert result.untuned == pytest.approx(-math.log(18), abs=0.1)
    assert all(score < result.bar["value"] for score in result.curve[0].scores.values())
    assert all(score >= result.bar["value"] for score in result.curve[1].scores.values())
    assert "is expected to reach a perplexity of at most 12 on the report split" in result.definition
    assert result.trainings == 4, "scoring the untuned decoder is no training"


def test_the_report_shows_perplexities_and_comes_back(result: DimensionResult, tmp_path: Path) -> None:
    text = str(result)
    assert "perplexity at most 12, absolute" in text
    assert "not needed: absolute bar; untuned 1" in text
    for point, row in zip(result.curve, result.curve_rows(), strict=True):
        assert float(row[3]) == pytest.approx(math.exp(-point.mean), rel=1e-3)
    folder = result.save(tmp_path / "saved")
    assert DimensionResult.load(folder) == result
    assert json.loads((folder / "report.json").read_text())["bar"]["perplexity"] == pytest.approx(12)


@pytest.mark.parametrize("bar", ["0.9", "above-chance:0.5"])
def test_a_relative_bar_stands_on_reference_and_untuned(place: Path, tmp_path: Path, bar: str) -> None:
    result = quick(place, tmp_path, bar=bar, reference_seeds=2, reference_lr=1e-2, dims="300", seeds=1)
    reference, untuned = result.reference["mean"], result.untuned
    assert untuned is not None
    assert untuned < result.bar["value"] < reference
    share = 0.5 * (reference - untuned) + untuned if bar != "0.9" else reference + math.log(0.9)
    assert result.bar["value"] == pytest.approx(share)
    assert f"± {result.reference['std']:.4f} of its logarithm (2 runs); untuned" in str(result)


def test_the_picture_falls_on_a_logarithmic_axis(result: DimensionResult) -> None:
    from idim import plots

    with plots.figure() as (_, ax):
        result.plot(ax)
        assert ax.get_yscale() == "log"
        runs = next(line for line in ax.lines if line.get_label() == "one run")
        shown = sorted(float(y) for y in runs.get_ydata())
    expected = sorted(math.exp(-score) for point in result.curve for score in point.scores.values())
    assert shown == pytest.approx(expected)


def test_a_run_that_ends_worse_than_untuned_counts_as_untuned(place: Path, tmp_path: Path) -> None:
    result = quick(place, tmp_path, lr="3", dims="300", seeds=1)
    assert [point.scores for point in result.curve] == [{0: result.untuned}]
    with Store.read(tmp_path / "store") as store:
        scores = {row["spec"]["method"]: row["result"]["score"] for row in store.rows()}
    assert scores["subspace"] < scores["untuned"] == result.untuned


def test_a_bar_that_asks_for_nothing_is_refused(place: Path, tmp_path: Path) -> None:
    words = "out of reach of the untuned network; received absolute:50, a perplexity of 50, where the untuned one has 1"
    with pytest.raises(RequestError, match=words):
        quick(place, tmp_path, bar="absolute:50")


def test_the_bar_is_checked_before_anything_trains(place: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"an absolute bar of perplexity must be above 1; received 0\.9"):
        quick(place, tmp_path, bar="absolute:0.9")
    with pytest.raises(RequestError, match="needs a network with a module named 'head'"):
        quick(place, tmp_path, head="trained")
    assert not (tmp_path / "store").exists()


def test_an_encoder_is_refused_before_anything_trains(place: Path, tmp_path: Path) -> None:
    tiny_bert(tmp_path / "bert")
    with pytest.raises(RequestError, match="takes a decoder; received"):
        measure(model=str(tmp_path / "bert"), task=f"lm:txt:{place / 'texts.txt'}", out=tmp_path / "out")
    assert not (tmp_path / "store").exists()
