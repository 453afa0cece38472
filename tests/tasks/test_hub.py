from __future__ import annotations

from pathlib import Path

import pytest
from text_cases import sentences, write_csv

from idim import tasks
from idim.errors import RequestError

pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def test_a_local_folder_through_datasets(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for name, rows in (("train", 40), ("validation", 10), ("test", 12)):
        write_csv(folder / f"{name}.csv", sentences(rows, seed=rows), ("sentence", "label"))  # type: ignore[arg-type]
    task = tasks.load(f"hf:{folder}")
    assert [len(part) for part in (task.train, task.selection, task.report)] == [40, 10, 12]
    assert task.report.inputs.first == tuple(text for text, _ in sentences(12, seed=12))  # type: ignore[union-attr]
    with pytest.raises(RequestError, match="must have the column 'headline'"):
        tasks.load(f"hf:{folder},text=headline")


@pytest.mark.parametrize("name", ["nobody/nothing", "nobody/nothing/config", "nothing"])
def test_a_set_that_cannot_be_had_says_what_to_give_instead(name: str) -> None:
    with pytest.raises(RequestError, match=r"needs a data set that can be had; .*give csv:FOLDER") as caught:
        tasks.load(f"hf:{name}")
    assert "\n" not in str(caught.value)
