"""Images without their order: what is permuted, what is kept, and that it never changes."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from idim import tasks
from idim.errors import RequestError
from idim.tasks.task import Task, hashed_order, majority

ROWS, SIDE = 60, 5


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a data folder whose ``mnist`` has 60 and 20 images of different pixels in ten classes."""
    folder, random = tmp_path / "mnist", np.random.default_rng(0)
    folder.mkdir()
    for split, rows in (("train", ROWS), ("t10k", 20)):
        pixels = np.stack([random.permutation(SIDE * SIDE) for _ in range(rows)]).reshape(rows, SIDE, SIDE)
        for kind, values in (("images", pixels), ("labels", np.arange(rows) % 10)):
            head = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
            (folder / f"{split}-{kind}").write_bytes(head + values.astype(np.uint8).tobytes())
    return tmp_path


def rows_of(task: Task) -> list[tuple[bytes, int]]:
    """Return the rows of the training split, sorted."""
    pairs = zip(task.train.inputs, task.train.targets.tolist(), strict=True)
    return sorted((image.numpy().tobytes(), label) for image, label in pairs)


def test_pixels_move_alike_in_every_image(data: Path) -> None:
    plain, shuffled = (tasks.load(name, data=data) for name in ("mnist", "mnist:shuffled-pixels"))
    assert shuffled.name == "mnist:shuffled-pixels"
    first, moved = plain.train.inputs[0].flatten(), shuffled.train.inputs[0].flatten()
    order = torch.stack([(first == value).nonzero().squeeze() for value in moved])
    assert order.tolist() == hashed_order(SIDE * SIDE, "shuffled pixels").tolist()
    for name in ("train", "selection", "report"):
        before, after = getattr(plain, name), getattr(shuffled, name)
        assert torch.equal(after.inputs.flatten(1), before.inputs.flatten(1)[:, order])
        assert after.inputs.shape == before.inputs.shape
        assert torch.equal(after.targets, before.targets)


def test_labels_change_places_among_the_rows_asked_for(data: Path) -> None:
    plain, shuffled = (tasks.load(name, data=data) for name in ("mnist", "mnist:shuffled-labels,rows=40"))
    images, labels = zip(*rows_of(shuffled), strict=True)
    true = dict(rows_of(plain))
    assert len(set(images)) == 40 == len(shuffled.train)
    assert set(images) <= set(true)
    assert sorted(labels) == sorted(true[image] for image in images)
    assert sum(true[image] == label for image, label in zip(images, labels, strict=True)) < 20
    assert shuffled.train is shuffled.selection is shuffled.report
    assert shuffled.chance == majority(shuffled.train.targets)
    assert len(tasks.load("mnist:shuffled-labels", data=data).train) == len(plain.train)


def test_each_variant_is_a_task_of_its_own_and_stays(data: Path) -> None:
    names = ["mnist", "mnist:shuffled-pixels", "mnist:shuffled-labels", "mnist:shuffled-labels,rows=40"]
    prints = [tasks.load(name, data=data).fingerprint for name in names]
    assert len(set(prints)) == len(names)
    assert prints == [tasks.load(name, data=data).fingerprint for name in names]


def test_the_orders_never_change(data: Path) -> None:
    assert hashed_order(25, "shuffled pixels")[:8].tolist() == [1, 19, 11, 7, 13, 6, 12, 3]
    assert hashed_order(40, "shuffled labels")[:8].tolist() == [6, 30, 27, 29, 25, 35, 19, 23]
    plain, shuffled = (tasks.load(name, data=data).train for name in ("mnist", "mnist:shuffled-labels,rows=40"))
    assert torch.equal(shuffled.inputs[:8], plain.inputs[[11, 22, 23, 15, 17, 13, 12, 2]])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mnist:shuffled-pixel", "unknown variant of task 'mnist' 'shuffled-pixel'; did you mean 'shuffled-pixels'"),
        ("mnist:3", "unknown variant of task 'mnist' '3'"),
        ("mnist:shuffled-labels,rows=0", "N at least 1; received 'mnist:shuffled-labels,rows=0'"),
        ("mnist:shuffled-labels,row=9", r"takes shuffled-pixels or shuffled-labels\[,rows=N\]"),
        ("mnist:shuffled-pixels,rows=9", "received 'mnist:shuffled-pixels,rows=9'"),
        ("mnist:shuffled-labels,rows=56", "at most the 55 of the training split; received 56"),
    ],
)
def test_what_cannot_be_shuffled(data: Path, name: str, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        tasks.load(name, data=data)


def test_a_wrong_variant_is_said_before_data_are_looked_for(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="unknown variant"):
        tasks.load("mnist:shuffled", data=tmp_path)
