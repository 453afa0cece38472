from __future__ import annotations

import gzip
import math
from pathlib import Path

import pytest
import torch
from text_cases import sentences, write_csv

from idim import tasks
from idim.errors import RequestError
from idim.tasks import Split, Task, Texts, language


def texts_of(split: Split) -> tuple[str, ...]:
    assert isinstance(split.inputs, Texts)
    assert split.inputs.second is None
    return split.inputs.first


def splits(task: Task) -> tuple[Split, Split, Split]:
    return task.train, task.selection, task.report


def table(folder: Path, rows: int = 200) -> Path:
    return write_csv(
        folder / "t.csv", [(f"{text} number {i}", label) for i, (text, label) in enumerate(sentences(rows))]
    )


def test_the_texts_of_a_task_in_its_own_splits(tmp_path: Path) -> None:
    path = table(tmp_path)
    plain, asked = tasks.load(f"csv:{path}"), language.from_task(tasks.load(f"csv:{path}"))
    for one, other in zip(splits(plain), splits(asked), strict=True):
        assert texts_of(one) == texts_of(other)
        assert other.foretold
        assert not one.foretold
        assert len(other) == len(one)
    assert asked.name == f"lm:csv:{path}"
    assert (asked.metric, asked.outputs, asked.next_token, asked.input_shape) == ("perplexity", 1, True, ())
    assert math.isnan(asked.chance)
    assert asked.fingerprint != plain.fingerprint


def test_a_table_needs_no_labels(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", [(f"row {i} of them",) for i in range(100)], header=("words",))
    task = tasks.load(f"lm:csv:{path},text=words")
    assert sum(map(len, splits(task))) == 100
    assert tasks.load(f"lm:csv:{path},text=words") is task, "read once while the file does not change"


def test_pairs_are_one_text_each(tmp_path: Path) -> None:
    rows = [(f"first {i}", f"second {i}") for i in range(60)]
    task = tasks.load(f"lm:csv:{write_csv(tmp_path / 't.csv', rows, header=('text', 'text2'))}")
    assert {row for part in splits(task) for row in texts_of(part)} == {f"{a}\n{b}" for a, b in rows}


@pytest.mark.parametrize("packed", [False, True])
def test_lines_of_plain_text(tmp_path: Path, packed: bool) -> None:
    lines = [f"zeile {i} mit umläuten" for i in range(80)]
    content = ("\ufeff" + "\r\n".join([*lines, "", "   ", lines[0]])).encode()
    path = tmp_path / ("t.txt.gz" if packed else "t.txt")
    path.write_bytes(gzip.compress(content) if packed else content)
    task = tasks.load(f"lm:txt:{path}")
    found = [row for part in splits(task) for row in texts_of(part)]
    assert sorted(found) == sorted(lines), "without the blank ones and the repeated one"


def test_a_folder_of_plain_text_has_its_own_splits(tmp_path: Path) -> None:
    for part, rows in (("train", 9), ("dev", 4), ("test", 5)):
        (tmp_path / f"{part}.txt").write_text("".join(f"{part} {i}\n" for i in range(rows)))
    assert [len(part) for part in splits(tasks.load(f"lm:txt:{tmp_path}"))] == [9, 4, 5]


def test_held_out_splits_are_cut_and_training_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "HELD", 7)
    path = table(tmp_path, 300)
    whole, cut = tasks.load(f"csv:{path}"), tasks.load(f"lm:csv:{path}")
    assert len(cut.train) == len(whole.train)
    for one, other in zip(splits(whole)[1:], splits(cut)[1:], strict=True):
        assert len(other) == 7
        assert [row for row in texts_of(one) if row in texts_of(other)] == list(texts_of(other)), "in their order"


def test_loss_and_score_are_means_over_tokens(tmp_path: Path) -> None:
    task = tasks.load(f"lm:csv:{table(tmp_path)}")
    sums, counts = torch.tensor([[2.0], [0.0], [10.0]]), torch.tensor([2, 0, 4])
    assert float(task.loss(sums, counts)) == pytest.approx(2.0)
    assert task.score(sums, counts) == pytest.approx(-2.0)
    assert float(task.loss(sums[1:2], counts[1:2])) == 0, "nothing foretold, nothing lost"


def test_content_names_the_task_and_the_place_does_not(tmp_path: Path) -> None:
    import dataclasses

    from idim.runs import RunSpec

    keys, prints = set(), set()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        task = tasks.load(f"lm:csv:{table(tmp_path / name)}")
        spec = RunSpec(
            task=task.name, fingerprint=task.fingerprint, model="m", method="full", lr=1, recipe=task.recipe, seed=0
        )
        keys.add(spec.key)
        prints.add(task.fingerprint)
        labelled = tasks.load(f"csv:{tmp_path / name / 't.csv'}")
        assert dataclasses.replace(spec, task=labelled.name).key != spec.key
    assert len(keys) == len(prints) == 1


# -- what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lm:digits", "needs a task of texts; received 'lm:digits', of numbers"),
        ("lm:", r"needs a text task, csv:PATH or txt:PATH; received 'lm:'"),
        ("lm:lm:trec", r"needs a text task, csv:PATH or txt:PATH; received 'lm:lm:trec'"),
        ("lm:trek", "unknown task 'trek'; did you mean 'trec'"),
        ("lm:txt:", r"needs a path; received 'lm:txt:'"),
        ("lm:txt:/nowhere.txt", r"a file of \.txt, \.txt\.gz; received '/nowhere\.txt', which does not exist"),
        ("lm:csv:/nowhere,label=x", "unknown option of lm:csv:PATH.* 'label'"),
    ],
)
def test_what_is_no_text_is_refused(name: str, words: str) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        tasks.load(name)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(b"\xff\xfe\x00a\xd8")
    with pytest.raises(RequestError, match=r"cannot read .*t\.txt as UTF-8 text: 'utf-8' codec"):
        tasks.load(f"lm:txt:{tmp_path / 't.txt'}")
    (tmp_path / "u.txt.gz").write_bytes(b"no gzip")
    with pytest.raises(RequestError, match=r"cannot read .*u\.txt\.gz as UTF-8 text"):
        tasks.load(f"lm:txt:{tmp_path / 'u.txt.gz'}")
    (tmp_path / "v.txt").write_text("\n \n")
    with pytest.raises(RequestError, match="must give rows to train, selection and report; received 0, 0, 0 rows"):
        tasks.load(f"lm:txt:{tmp_path / 'v.txt'}")


def test_a_label_has_no_perplexity(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="unknown metric 'perplexity'"):
        tasks.load(f"csv:{table(tmp_path)},metric=perplexity")
