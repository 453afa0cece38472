"""Tasks that are scored on fewer rows."""

from __future__ import annotations

import pytest
import torch
from text_cases import sentences, write_csv

from idim import tasks
from idim.errors import RequestError
from idim.runs import RunSpec


def test_scored_rows_are_few_and_training_rows_the_same():
    whole, few = tasks.load("digits"), tasks.load("few:50:digits")
    assert few.name == "few:50:digits"
    assert few.train is whole.train
    assert (len(few.selection), len(few.report)) == (50, 50)
    held = {row.numpy().tobytes() for row in whole.report.inputs}
    assert {row.numpy().tobytes() for row in few.report.inputs} < held
    assert few.fingerprint != whole.fingerprint != tasks.load("few:51:digits").fingerprint
    assert float(few.report.targets.bincount().max()) / 50 == few.chance
    assert tasks.load("few:50:digits") is few  # texts of it are tokenised once


def test_fewer_rows_begin_as_more_do():
    few, more = tasks.load("few:20:digits"), tasks.load("few:90:digits")
    assert torch.equal(few.report.inputs, more.report.inputs[:20])


def test_a_split_that_is_small_enough_stays():
    whole, few = tasks.load("digits"), tasks.load("few:100000:digits")
    assert few.report is whole.report
    assert few.selection is whole.selection


def test_texts_stay_with_their_labels_and_place_is_no_part_of_a_run(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_csv(tmp_path / name / "rows.csv", sentences(300))
    one, other = (tasks.load(f"few:30:csv:{tmp_path / name}/rows.csv") for name in ("a", "b"))
    for text, label in zip(one.report.inputs.first, one.report.targets.tolist(), strict=True):
        assert label == int("good" in text.split() or "fine" in text.split())
    keys = {
        RunSpec(
            task=t.name, fingerprint=t.fingerprint, model="mlp:4", method="full", lr=0.1, recipe=t.recipe, seed=0
        ).key
        for t in (one, other)
    }
    assert len(keys) == 1


@pytest.mark.parametrize("name", ["few:digits", "few:0:digits", "few:x:digits", "few:"])
def test_other_forms_are_refused(name):
    with pytest.raises(RequestError, match="task 'few:ROWS:TASK' needs a number of rows and a task; received 'few:"):
        tasks.load(name)
