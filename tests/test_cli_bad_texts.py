"""What `idim measure` refuses of texts and language models: status 2, one line, before anything trains."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from text_cases import sentences, tiny_bert, tiny_decoder, tiny_tokenizer, write_csv

from idim import cli

pytest.importorskip("transformers")
pytest.importorskip("datasets")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of good and bad tables and models."""
    place, rows = tmp_path_factory.mktemp("bad"), sentences(120)
    tables: dict[str, list[tuple[object, ...]]] = {
        "good": [*rows],
        "empty": [*rows, ("", 1)],
        "one": [(text, 1) for text, _ in rows],
    }
    for name, content in tables.items():
        write_csv(place / f"{name}.csv", content)
    write_csv(place / "columns.csv", [*rows], header=("review", "stars"))
    (place / "strange").mkdir()
    write_csv(place / "strange" / "train.csv", [*rows])
    write_csv(place / "strange" / "test.csv", [("the cat", 7)])
    tiny_decoder(place / "decoder")
    bert = tiny_bert(place / "bert")
    for name, missing in (("configless", "config.json"), ("weightless", "model.safetensors"), ("other", "")):
        shutil.copytree(bert, place / name)
        (place / name / missing).unlink() if missing else tiny_tokenizer(place / name, [f"w{i}" for i in range(90)])
    return place


CASES = [
    ("csv:good.csv", "nobody/nothing", r"model 'nobody/nothing' cannot be had: .* Without the network give a folder"),
    ("hf:nobody/nothing", "bert", r"received 'nobody/nothing' \(.*\): without the network, give csv:FOLDER"),
    ("csv:good.csv", "configless", "a model's folder must hold config.json; received"),
    ("csv:good.csv", "weightless", r"a model's folder must hold weights as \.safetensors; received"),
    ("csv:good.csv", "other", "the tokenizer of .* must fit its model of 18 tokens; received 94"),
    ("csv:columns.csv", "bert", "must have the column 'text'; received review, stars: name yours as in text=COLUMN"),
    ("csv:good.csv,label=star", "bert", "must have the column 'star'; received text, label"),
    ("csv:empty.csv", "bert", "must not be empty; received 1 empty ones, the first in row 121 of 121: drop"),
    ("csv:strange", "bert", "every label .* must occur in its train split; received '7', known are 0, 1"),
    ("csv:one.csv", "bert", "between 2 and 1000 classes in its train split; received 1"),
    ("lm:csv:good.csv", "bert", "takes a decoder; received .*, a 'bert' encoder: give smollm2"),
    ("lm:csv:good.csv", "other", "takes a decoder"),
    ("lm:csv:columns.csv", "decoder", r"must have the column 'text'; .*name yours as in text=COLUMN$"),
    ("lm:digits", "decoder", "needs a task of texts; received 'lm:digits', of numbers"),
    ("csv:good.csv", "mlp:5", "takes numbers; received texts"),
    ("digits", "bert", r"takes texts; received rows of shape \[1, 8, 8\]"),
]


@pytest.mark.parametrize(("task", "model", "words"), CASES)
def test_one_line_and_status_two(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    task: str,
    model: str,
    words: str,
) -> None:
    import datasets.config
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(place)
    monkeypatch.setattr("idim.runs.engine.train", None)
    with pytest.raises(SystemExit) as leaving:
        cli.main(["measure", "--task", task, "--model", model, "--engine", "serial", "--quiet", "--out", "out/here"])
    assert leaving.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith("idim: ")
    assert line.count("\n") == 1
    assert re.search(words, line.strip()), line
    assert not (place / "out").exists(), "refused before anything is made"
