from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd
import pytest
import torch
from text_cases import sentences, write_csv

from idim import tasks
from idim.errors import RequestError
from idim.tasks import Texts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with train.csv.gz, dev.csv and test.parquet."""
    for name, rows in (("train", 40), ("dev", 10), ("test", 12)):
        frame = pd.DataFrame(sentences(rows, seed=rows), columns=["text", "label"])
        if name == "train":
            (tmp_path / "train.csv.gz").write_bytes(gzip.compress(frame.to_csv(index=False).encode()))
        elif name == "dev":
            frame.to_csv(tmp_path / "dev.csv", index=False)
        else:
            frame.to_parquet(tmp_path / "test.parquet")
    return tmp_path


def test_a_folder_of_csv_and_parquet(folder: Path) -> None:
    task = tasks.load(f"csv:{folder}")
    assert [len(part) for part in (task.train, task.selection, task.report)] == [40, 10, 12]
    assert isinstance(task.train.inputs, Texts)
    expected = sentences(12, seed=12)
    assert list(zip(task.report.inputs.first, task.report.targets.tolist(), strict=True)) == expected  # type: ignore[union-attr]
    assert (task.metric, task.outputs, task.input_shape, task.default_model) == ("accuracy", 2, (), "minilm")
    assert task.chance == max(task.report.targets.bincount().tolist()) / 12


def test_equal_rows_have_one_fingerprint_and_other_rows_another(folder: Path, tmp_path: Path) -> None:
    task = tasks.load(f"csv:{folder}")
    frame = pd.read_csv(folder / "dev.csv")
    frame.to_parquet(folder / "dev.parquet")
    (folder / "dev.csv").unlink()
    assert tasks.load(f"csv:{folder}").fingerprint == task.fingerprint
    frame.loc[3, "label"] = 1 - frame.loc[3, "label"]
    frame.to_parquet(folder / "dev.parquet")
    assert tasks.load(f"csv:{folder}").fingerprint != task.fingerprint


def test_one_file_with_other_names_of_columns_and_a_metric(tmp_path: Path) -> None:
    rows = [(text, f"and {text}", label) for text, label in sentences(200)]
    path = write_csv(tmp_path / "mine.csv", rows, ("one", "two", "y"))  # type: ignore[arg-type]
    task = tasks.load(f"csv:{path},text=one,text2=two,label=y,metric=f1")
    assert task.metric == "f1"
    assert task.train.inputs.second[0] == f"and {task.train.inputs.first[0]}"  # type: ignore[union-attr, index]
    assert len(task.train) > len(task.report) > len(task.selection) > 0


def test_fractions_are_values_standardised_by_the_training_rows(tmp_path: Path) -> None:
    for name, rows in (("train", 50), ("dev", 9), ("test", 8)):
        write_csv(tmp_path / f"{name}.csv", [(f"text {i}", i / 4) for i in range(rows)])
    task = tasks.load(f"csv:{tmp_path}")
    assert (task.metric, task.outputs) == ("spearman", 1)
    assert task.train.targets.shape == (50, 1)
    assert task.train.targets.mean().item() == pytest.approx(0, abs=1e-6)
    assert task.train.targets.std(correction=0).item() == pytest.approx(1, rel=1e-6)
    answers = task.report.targets * 3 + 1
    assert task.score(answers, task.report.targets) == pytest.approx(1)
    assert task.loss(answers, task.report.targets).item() == pytest.approx(
        (answers - task.report.targets).square().mean().item()
    )


def test_words_are_classes_in_order_and_texts_keep_words_such_as_none(tmp_path: Path) -> None:
    rows = [(f"NA {i}" if i else "None", ["zebra", "ant", "mole"][i % 3]) for i in range(60)]
    task = tasks.load(f"csv:{write_csv(tmp_path / 'a.csv', rows)}")  # type: ignore[arg-type]
    assert task.outputs == 3
    texts = {text for part in (task.train, task.selection, task.report) for text in part.inputs.first}  # type: ignore[union-attr]
    assert "None" in texts
    first = dict(zip(task.train.inputs.first, task.train.targets.tolist(), strict=True))  # type: ignore[union-attr]
    assert all(first[t] == {"zebra": 2, "ant": 0, "mole": 1}[dict(rows)[t]] for t in first)


def test_a_test_split_without_labels_is_left_out(folder: Path) -> None:
    frame = pd.read_parquet(folder / "test.parquet").assign(label=-1)
    frame.to_parquet(folder / "test.parquet")
    task = tasks.load(f"csv:{folder}")
    assert len(task.report) == 10
    assert len(task.train) + len(task.selection) == 40


ROWS = [(f"text {i}", i % 2) for i in range(100)]


@pytest.mark.parametrize(
    ("rows", "header", "options", "words"),
    [
        (ROWS, ("text", "y"), "", "must have the column 'label'; received text, y"),
        (ROWS, ("text", "label"), ",text2=other", "must have the column 'other'"),
        (ROWS, ("text", "label"), ",colour=red", "unknown option of csv:PATH.* 'colour'"),
        (ROWS, ("text", "label"), ",label=", "needs a value for 'label'"),
        (ROWS, ("text", "label"), ",metric=acuracy", "unknown metric 'acuracy'; did you mean 'accuracy'"),
        ([(t, 1) for t, _ in ROWS], ("text", "label"), "", "between 2 and 1000 classes .* received 1"),
        ([*ROWS, ("  ", 1)], ("text", "label"), "", "must not be empty; received 1 empty ones"),
        ([(t, i % 3) for i, (t, _) in enumerate(ROWS)], ("text", "label"), ",metric=f1", "'f1' needs two classes"),
        ([(t, "much") for t, _ in ROWS], ("text", "label"), ",metric=spearman", "finite numbers .* received 'much'"),
        ([(t, 2) for t, _ in ROWS], ("text", "label"), ",metric=spearman", "must differ; received 2"),
        ([], ("text", "label"), "", "must have rows; received none"),
    ],
)
def test_bad_tables_are_refused_in_one_line(
    tmp_path: Path, rows: list[tuple[object, ...]], header: tuple[str, ...], options: str, words: str
) -> None:
    path = write_csv(tmp_path / "bad.csv", rows, header)
    with pytest.raises(RequestError, match=words) as caught:
        tasks.load(f"csv:{path}{options}")
    assert "\n" not in str(caught.value)


def test_labels_unknown_to_training_are_refused(folder: Path) -> None:
    frame = pd.read_parquet(folder / "test.parquet")
    frame["label"] = [7, *frame["label"][1:]]
    frame.to_parquet(folder / "test.parquet")
    with pytest.raises(RequestError, match="must occur in its train split; received '7', known are 0, 1"):
        tasks.load(f"csv:{folder}")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("gone.csv", None, "does not exist"),
        ("a.txt", b"text,label", "is of another kind"),
        ("a.parquet", b"no parquet", "cannot read"),
        ("a.csv.gz", b"no gzip", "cannot read"),
        ("a.csv", b"\xff\xfe\x00", "cannot read"),
        ("a.csv", b"", "cannot read"),
    ],
)
def test_files_that_are_no_tables_are_refused(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(RequestError, match=words) as caught:
        tasks.load(f"csv:{tmp_path / name}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["csv", "csv:", "hf:"])
def test_a_kind_without_its_argument_is_refused(name: str) -> None:
    with pytest.raises(RequestError, match="needs what follows the colon"):
        tasks.load(name)


def test_targets_are_class_numbers() -> None:
    assert tasks.load("digits").train.targets.dtype == torch.int64
