from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from idim import tasks
from idim.errors import RequestError
from idim.tasks import images
from idim.tasks.task import fingerprint, hashed_order, majority

DATA = Path(os.environ.get("IDIM_DATA", Path(__file__).resolve().parents[2].parent / "shared" / "data"))


def write_idx(path: Path, array: np.ndarray) -> None:
    content = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def idx_folder(folder: Path, rows: int = 48, *, end: str = "", test: str = "t10k", classes: int = 3) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for split, n in (("train", rows), (test, rows // 2)):
        write_idx(folder / f"{split}-images-idx3-ubyte{end}", random.integers(0, 256, (n, 20, 18)))
        write_idx(folder / f"{split}-labels-idx1-ubyte{end}", np.arange(n) % classes)
    return folder


def test_every_task_keeps_its_promises(tmp_path: Path) -> None:
    for name in ("digits", "toy", "regression:3", f"idx:{idx_folder(tmp_path / 'four')}"):
        task = tasks.load(name)
        assert task.name == name
        for split in (task.train, task.selection, task.report):
            assert split.inputs.shape[1:] == task.input_shape
            assert len(split) == len(split.inputs) > 0
        assert tasks.load(name) is task
        assert len(task.fingerprint) == 32


def test_digits_are_split_without_overlap() -> None:
    task = tasks.load("digits")
    assert [len(s) for s in (task.train, task.selection, task.report)] == [1078, 359, 360]
    rows = torch.cat([s.inputs.flatten(1) for s in (task.train, task.selection, task.report)])
    assert len(rows.unique(dim=0)) == len(rows) == 1797
    assert task.train.inputs.mean().abs() < 1e-6
    assert task.train.inputs.std().sub(1).abs() < 1e-6
    assert set(task.report.targets.tolist()) == set(range(10))
    assert task.chance == majority(task.report.targets) < 0.15
    assert task.fingerprint == "03403df91d8e67644fbde57f77470458"


def test_the_toy_is_ten_sums() -> None:
    task = tasks.load("toy")
    theta = torch.arange(1000, dtype=torch.float64).unsqueeze(1)
    sums = theta.reshape(10, 100).sum(dim=1, keepdim=True)
    torch.testing.assert_close(task.train.inputs @ theta, sums)
    assert task.train.targets.flatten().tolist() == list(range(1, 11))
    assert torch.linalg.matrix_rank(task.train.inputs) == 10


@pytest.mark.parametrize("rank", [1, 5, 20, 300])
def test_a_regression_has_its_rank_and_a_solution(rank: int) -> None:
    rows = tasks.load(f"regression:{rank}").train
    assert len(rows) > rank
    assert torch.linalg.matrix_rank(rows.inputs) == rank
    solution = torch.linalg.pinv(rows.inputs, rtol=1e-9) @ rows.targets
    torch.testing.assert_close(rows.inputs @ solution, rows.targets, rtol=1e-8, atol=1e-8)
    assert tasks.load("regression").name == "regression:5"


def test_scores_of_known_answers() -> None:
    digits, toy = tasks.load("digits"), tasks.load("toy")
    exact = torch.nn.functional.one_hot(digits.report.targets, 10).float()
    assert digits.score(exact, digits.report.targets) == 1.0
    constant = torch.zeros(len(exact), 10).index_fill(1, digits.report.targets.bincount().argmax(), 1.0)
    assert digits.score(constant, digits.report.targets) == digits.chance
    assert digits.loss(torch.zeros(5, 10), torch.arange(5)).item() == pytest.approx(np.log(10))
    y = toy.report.targets
    assert [toy.score(c * y, y) for c in (0.0, 0.5, 1.0, 2.0)] == [0.0, 0.75, 1.0, 0.0]
    assert toy.score(0 * y, y) == toy.chance


def test_an_idx_folder_is_read_the_same_however_it_is_written(tmp_path: Path) -> None:
    plain = tasks.load(f"idx:{idx_folder(tmp_path / 'plain')}")
    packed = tasks.load(f"idx:{idx_folder(tmp_path / 'packed', end='.gz', test='test')}")
    assert plain.fingerprint == packed.fingerprint
    torch.testing.assert_close(plain.report.inputs, packed.report.inputs, rtol=0, atol=0)
    assert plain.input_shape == (1, 20, 18)
    assert [len(s) for s in (plain.train, plain.selection, plain.report)] == [44, 4, 24]
    pixels = torch.cat([plain.train.inputs, plain.selection.inputs])
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    assert torch.equal((pixels * 255).round() / 255, pixels)


def test_a_changed_folder_is_read_again(tmp_path: Path) -> None:
    folder = idx_folder(tmp_path)
    before = tasks.load(f"idx:{folder}")
    write_idx(folder / "train-labels-idx1-ubyte", np.zeros(48) + (np.arange(48) < 5))
    os.utime(folder / "train-labels-idx1-ubyte", ns=(1, 1))
    assert tasks.load(f"idx:{folder}").fingerprint != before.fingerprint


def test_a_fingerprint_sees_values_shape_type_and_preparation() -> None:
    a = np.arange(6, dtype=np.uint8)
    prints = [
        fingerprint("p", [a]),
        fingerprint("p", [a[::-1]]),
        fingerprint("p", [a.reshape(2, 3)]),
        fingerprint("p", [a.astype(np.int64)]),
        fingerprint("q", [a]),
        fingerprint("p", [a, a]),
    ]
    assert len(set(prints)) == len(prints)
    assert fingerprint("p", [a.copy()]) == prints[0]


def test_the_hashed_order_never_changes() -> None:
    assert hashed_order(8, "digits").tolist() == [6, 7, 2, 0, 3, 1, 5, 4]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("digit", "unknown task 'digit'; did you mean 'digits'"),
        ("mnits", "unknown task 'mnits'; did you mean 'mnist'"),
        ("digits:3", "task 'digits' takes no argument; received 'digits:3'"),
        ("regression:0", "rank of regression must be between 1 and 1000; received 0"),
        ("regression:1001", "between 1 and 1000; received 1001"),
        ("regression:five", "needs a whole number; received 'regression:five'"),
        ("regression:" + "9" * 5000, "needs a whole number"),
        ("idx:", "task 'idx:PATH' needs a folder of idx files; received 'idx:'"),
        ("idx:/nowhere", "received 'idx:/nowhere'"),
    ],
)
def test_unknown_tasks_and_arguments(name: str, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        tasks.load(name)


def test_missing_data_says_where_and_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestError, match=rf"needs the folder {tmp_path}/mnist, .* --data DIR or IDIM_DATA"):
        tasks.load("mnist", data=tmp_path)
    monkeypatch.setenv("IDIM_DATA", str(tmp_path / "there"))
    with pytest.raises(RequestError, match=f"{tmp_path}/there/mnist"):
        tasks.load("mnist")
    monkeypatch.delenv("IDIM_DATA")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match=f"{tmp_path}/data/mnist"):
        tasks.load("mnist")


def _remove(folder: Path) -> None:
    (folder / "t10k-labels-idx1-ubyte").unlink()


def _fewer_labels(folder: Path) -> None:
    write_idx(folder / "train-labels-idx1-ubyte", np.zeros(47))


def _truncate(folder: Path) -> None:
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:1000])


def _labels_for_images(folder: Path) -> None:
    write_idx(folder / "t10k-images-idx3-ubyte", np.zeros(24))


def _images_for_labels(folder: Path) -> None:
    write_idx(folder / "t10k-labels-idx1-ubyte", np.zeros((24, 2)))


def _other_shape(folder: Path) -> None:
    write_idx(folder / "t10k-images-idx3-ubyte", np.zeros((24, 5, 5)))


def _one_class(folder: Path) -> None:
    for split, n in (("train", 48), ("t10k", 24)):
        write_idx(folder / f"{split}-labels-idx1-ubyte", np.zeros(n))


def _huge_label(folder: Path) -> None:
    path = folder / "train-labels-idx1-ubyte"
    path.write_bytes(struct.pack(">BBBBI48i", 0, 0, 0x0C, 1, 48, *[2**31 - 1] * 48))


def _negative_label(folder: Path) -> None:
    path = folder / "train-labels-idx1-ubyte"
    path.write_bytes(struct.pack(">BBBBI48b", 0, 0, 0x09, 1, 48, *[-1] * 48))


def _nan_pixels(folder: Path) -> None:
    path = folder / "t10k-images-idx3-ubyte"
    path.write_bytes(struct.pack(">BBBBII48f", 0, 0, 0x0D, 2, 24, 2, *[float("nan")] * 48))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_remove, r"must hold a file named t10k-labels\* or test-labels\*; found none"),
        (_fewer_labels, "must agree in number; received 48 images in .* and 47 labels in"),
        (_truncate, "48, 20, 18], 17280 bytes of values; received 984"),
        (_labels_for_images, "must hold rows of pixels; received shape .24."),
        (_images_for_labels, "must hold one class number a row; received uint8 .24, 2."),
        (_other_shape, r"must have one shape; received \(20, 18\) and \(5, 5\)"),
        (_one_class, "received 48 rows and labels up to 0"),
        (_huge_label, "received 48 rows and labels up to 2147483647"),
        (_negative_label, "must count classes from 0; received -1"),
        (_nan_pixels, "must hold finite pixels; received 48 others"),
    ],
)
def test_a_broken_idx_folder_is_one_line(tmp_path: Path, damage: object, words: str) -> None:
    folder = idx_folder(tmp_path)
    damage(folder)  # type: ignore[operator]
    with pytest.raises(RequestError, match=words) as refusal:
        tasks.load(f"idx:{folder}")
    assert "\n" not in str(refusal.value)


def test_pixels_are_scaled_to_the_unit_interval() -> None:
    byte = images._scaler(np.full((3, 2, 2), 7, dtype=np.uint8))(np.full((1, 2, 2), 51, dtype=np.uint8))
    assert torch.equal(byte, torch.full((1, 1, 2, 2), 0.2))
    wide = images._scaler(np.array([[[-100.0, 300.0]]]))(np.array([[[0.0, 100.0]]]))
    assert torch.equal(wide, torch.tensor([[[[0.25, 0.5]]]]))


def test_images_of_one_colour_are_not_divided_by_zero() -> None:
    flat = np.full((3, 2, 2), 7.0)
    assert torch.equal(images._scaler(flat)(flat[:1]), torch.zeros(1, 1, 2, 2))


def test_mnist_is_the_known_one() -> None:
    if not (DATA / "mnist").is_dir():
        pytest.skip(f"MNIST is not in {DATA}: set IDIM_DATA")
    task = tasks.load("mnist", data=DATA)
    assert [len(s) for s in (task.train, task.selection, task.report)] == [55_000, 5_000, 10_000]
    assert task.chance == 0.1135
    assert task.input_shape == (1, 28, 28)
    assert task.outputs == 10
    assert task.fingerprint == "d28b49313a5323ba2b9d25524a1d740f"
