"""What was tuned on one task, scored on another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from text_cases import sentences, tiny_bert, write_csv

from idim import models, plots, tasks
from idim.delta_tuning import picture
from idim.delta_tuning.bench import Bench
from idim.delta_tuning.transfer import FILE, others, transfers
from idim.errors import RequestError
from idim.runs import run
from idim.tasks import Recipe, Task

pytest.importorskip("transformers")
RECIPE = Recipe(optimizer="adamw", batch_size=8, steps=4, length=16)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Return a bench of a small encoder."""
    folder = tmp_path_factory.mktemp("transfer")
    tiny_bert(folder / "bert")
    write_csv(folder / "one.csv", sentences(120))  # type: ignore[arg-type]
    task = tasks.load(f"csv:{folder / 'one.csv'}")
    return Bench(task=task, model=models.resolve(str(folder / "bert")), recipe=RECIPE, headed=True, evaluations=0)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Task:
    """Return a second task of two classes."""
    path = tmp_path_factory.mktemp("other") / "two.csv"
    return tasks.load(f"csv:{write_csv(path, sentences(120, seed=1))}")  # type: ignore[arg-type]


def test_on_its_own_task_a_training_scores_what_a_run_scores(bench: Bench, other: Task, tmp_path: Path) -> None:
    found = transfers(bench, [bench.task, other], {"full": 1e-3, "lora": 1e-2}, data=None, folder=tmp_path)
    for method, lr in (("full", 1e-3), ("lora", 1e-2)):
        assert found[method][bench.task.name][bench.task.name] == run(bench.trial(method, lr)).score
        assert set(found[method][other.name]) == {bench.task.name, other.name}
    with plots.canvas(figsize=picture.map_size(found)) as fig:
        picture.transfers(fig, found, metric="accuracy")
        assert len(fig.axes) == 2


def test_finished_trainings_are_not_repeated(
    bench: Bench, other: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = transfers(bench, [bench.task, other], {"full": 1e-3}, data=None, folder=tmp_path)
    assert len(json.loads((tmp_path / FILE).read_text())) == 4
    monkeypatch.setattr("idim.delta_tuning.transfer.scores_on", None)
    assert transfers(bench, [bench.task, other], {"full": 1e-3}, data=None, folder=tmp_path) == first


def test_tasks_of_other_outputs_are_refused(bench: Bench) -> None:
    with pytest.raises(RequestError, match="as many outputs"):
        others(["digits"], bench.task, None)
    assert others([bench.task.name], bench.task, None) == (bench.task,)
