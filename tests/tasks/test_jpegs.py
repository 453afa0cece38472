from __future__ import annotations

import io
import lzma
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from idim import models, tasks
from idim.errors import RequestError
from idim.tasks import jpegs

ROWS = {"train": 60, "test": 20}


def jpeg(colour: tuple[int, int, int], side: int = 32, kind: str = "JPEG") -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(content, format=kind, quality=95)
    return content.getvalue()


def write(folder: Path, split: str, files: list[bytes], labels: list[int]) -> None:
    (folder / f"{split}.jpgs.xz").write_bytes(lzma.compress(b"".join(files)))
    length = np.array([len(file) for file in files], dtype=np.int32)
    np.savez(folder / f"{split}_index.npz", length=length, label=np.array(labels, dtype=np.uint8))


def colour(row: int) -> tuple[int, int, int]:
    return 4 * row % 256, 40, 200


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a data folder with images of one colour each, the red one telling the row."""
    place = tmp_path / jpegs.NAME
    place.mkdir()
    for split, rows in ROWS.items():
        write(place, split, [jpeg(colour(row)) for row in range(rows)], [row % 10 for row in range(rows)])
    return tmp_path


def test_every_image_is_there_once_with_its_label(folder: Path) -> None:
    task = tasks.load("cifar10_jpeg", data=folder)
    assert (len(task.train), len(task.selection), len(task.report)) == (55, 5, 20)
    assert (task.input_shape, task.outputs, task.metric) == ((3, 32, 32), 10, "accuracy")
    seen = set()
    for part in (task.train, task.selection, task.report):
        assert isinstance(part.inputs, torch.Tensor)
        red = (part.inputs[:, 0].mean(dim=(1, 2)) * 255 / 4).round().long()
        assert torch.equal(red % 10, part.targets)
        torch.testing.assert_close(part.inputs[:, 2].mean(), torch.tensor(200 / 255), atol=0.02, rtol=0)
        seen |= {(part is task.report, int(row)) for row in red}
    assert len(seen) == 80
    assert tasks.load("cifar10_jpeg", data=folder) is task, "decoded once"


def test_a_subset_is_of_either_split_and_another_task(folder: Path) -> None:
    whole, part = (tasks.load(name, data=folder) for name in ("cifar10_jpeg", "cifar10_jpeg:20"))
    assert len(part.train) + len(part.selection) == len(part.report) == 20
    assert part.fingerprint != whole.fingerprint
    assert part.name == "cifar10_jpeg:20"
    assert isinstance(part.train.inputs, torch.Tensor)
    assert {tuple(p[:, 0, 0].tolist()) for p in part.train.inputs} <= {
        tuple(p[:, 0, 0].tolist())
        for split in (whole.train, whole.selection)
        for p in split.inputs  # type: ignore[union-attr]
    }


def test_small_and_residual_networks_take_the_images(folder: Path) -> None:
    task = tasks.load("cifar10_jpeg", data=folder)
    assert task.default_model == "lenet"
    for name, D in (("lenet", 62_006), ("scratch:resnet20", 269_722)):
        net = models.build(name, input_shape=task.input_shape, outputs=task.outputs, seed=0)
        assert sum(p.numel() for p in net.parameters()) == D
        assert net(task.report.inputs[:2]).shape == (2, 10)  # type: ignore[index]


# -- what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cifar10_jpeg:0", "cifar10_jpeg:many", "cifar10_jpeg:-3"])
def test_a_subset_is_a_number(folder: Path, name: str) -> None:
    with pytest.raises(RequestError, match=f"needs a number of images; received '{name}'"):
        tasks.load(name, data=folder)


def test_more_images_than_there_are(folder: Path) -> None:
    with pytest.raises(RequestError, match=r"takes at most 20 images of test\.jpgs\.xz; received 21"):
        tasks.load("cifar10_jpeg:21", data=folder)


@pytest.mark.parametrize("file", ["train.jpgs.xz", "test_index.npz"])
def test_a_missing_file_is_named(folder: Path, file: str) -> None:
    (folder / jpegs.NAME / file).unlink()
    with pytest.raises(RequestError, match=f"must hold the file {file}; found none"):
        tasks.load("cifar10_jpeg", data=folder)


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda f: f.joinpath("train.jpgs.xz").write_bytes(b"no xz"), r"cannot read .*train\.jpgs\.xz"),
        (lambda f: f.joinpath("train.jpgs.xz").write_bytes(lzma.compress(b"x")), "bytes of its index; received 1$"),
        (
            lambda f: f.joinpath("train.jpgs.xz").write_bytes(lzma.compress(b"x" * 10**6)),
            r"bytes of its index; received \d+ or more",
        ),
        (lambda f: f.joinpath("test_index.npz").write_bytes(b"no zip"), "must hold the arrays length and label"),
        (lambda f: np.savez(f / "test_index.npz", length=np.ones(3)), "must hold the arrays length and label"),
        (
            lambda f: np.savez(f / "test_index.npz", length=np.array([5, -2]), label=np.array([0, 1])),
            "a length above 0 and a label from 0 for every row",
        ),
        (lambda f: write(f, "test", [jpeg((0, 0, 0), side=16)], [0]), r"must be 32 x 32; received \(16, 16\) in row 0"),
        (lambda f: write(f, "test", [jpeg((0, 0, 0), kind="PNG")], [0]), "must hold JPEGs; received another file"),
    ],
)
def test_broken_files_are_refused_in_one_line(folder: Path, break_it: object, words: str) -> None:
    break_it(folder / jpegs.NAME)  # type: ignore[operator]
    with pytest.raises(RequestError, match=words) as caught:
        tasks.load("cifar10_jpeg", data=folder)
    assert "\n" not in str(caught.value)


def test_pickles_in_an_index_are_not_read(folder: Path) -> None:
    objects = np.array([{"a": 1}], dtype=object)
    np.savez(folder / jpegs.NAME / "test_index.npz", length=objects, label=objects)
    with pytest.raises(RequestError, match="must hold the arrays length and label; received: Object arrays"):
        tasks.load("cifar10_jpeg", data=folder)


def test_the_real_images(data_folder: Path) -> None:
    if not (data_folder / jpegs.NAME).is_dir():
        pytest.skip(f"no folder {jpegs.NAME} in {data_folder}")
    task = tasks.load("cifar10_jpeg:300", data=data_folder)
    assert (len(task.train), len(task.selection), len(task.report), task.outputs) == (275, 25, 300, 10)
    assert isinstance(task.train.inputs, torch.Tensor)
    torch.testing.assert_close(
        task.train.inputs.mean(dim=(0, 2, 3)), torch.tensor([0.491, 0.482, 0.447]), atol=0.03, rtol=0
    )
