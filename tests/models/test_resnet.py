from __future__ import annotations

import io
import lzma
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from idim import models
from idim.errors import RequestError
from idim.models import resnet

SIZES = {20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018}
COLOUR = (3, 32, 32)


def build(name: str, shape: tuple[int, ...] = COLOUR, *, weights: Path | None = None, seed: int = 0) -> torch.nn.Module:
    return models.build(name, input_shape=shape, outputs=10, seed=seed, weights=weights)


@pytest.fixture
def weights(data_folder: Path) -> Path:
    """Return the folder of pretrained networks beside the data, or skip."""
    folder = data_folder.parent / "models"
    if not (folder / resnet.FOLDER).is_dir():
        pytest.skip(f"no pretrained networks at {folder / resnet.FOLDER}")
    return folder


@pytest.mark.parametrize(("depth", "size"), SIZES.items())
def test_sizes_are_the_published_ones(depth: int, size: int) -> None:
    model = build(f"scratch:resnet{depth}")
    assert sum(p.numel() for p in model.parameters()) == size
    convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) + 1 == depth


def test_scratch_is_drawn_from_the_seed() -> None:
    state = torch.random.get_rng_state()
    one, again, other = (build("scratch:resnet20", seed=seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["layer2.1.conv1.weight"], other["layer2.1.conv1.weight"])


def test_grey_images_of_any_size_are_coloured_and_resized() -> None:
    model = build("scratch:resnet20", (1, 28, 28)).eval()
    grey = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(grey), model(grey.expand(2, 3, 28, 28)))
    with pytest.raises(RequestError, match=r"needs images of 1 or 3 channels; received rows of shape \[64\]"):
        build("scratch:resnet20", (64,))


def test_files_are_read_by_name_and_the_head_is_fresh(tmp_path: Path) -> None:
    source = build("scratch:resnet20", seed=5).state_dict()
    tensors = {name.replace("head.", "linear."): t for name, t in source.items() if "num_batches" not in name}
    save_file(tensors, tmp_path / "mine.safetensors")
    pinned = models.resolve(f"resnet20:{tmp_path / 'mine.safetensors'}")
    model = build(pinned).state_dict()
    assert torch.equal(model["layer3.2.conv2.weight"], source["layer3.2.conv2.weight"])
    assert not torch.equal(model["head.weight"], source["head.weight"])
    tensors["bn1.bias"] = tensors["bn1.bias"] + 1
    save_file(tensors, tmp_path / "mine.safetensors")
    with pytest.raises(RequestError, match="must be as it was when the run was asked for"):
        build(pinned)
    with pytest.raises(RequestError, match="must hold the tensors of resnet32; received another network"):
        build(f"resnet32:{tmp_path / 'mine.safetensors'}")
    (tmp_path / "mine.safetensors").write_bytes(b"no tensors")
    with pytest.raises(RequestError, match="needs its safetensors file"):
        build(f"resnet20:{tmp_path / 'mine.safetensors'}")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet21", "pretrained residual networks are resnet20, .*; received 'resnet21'"),
        ("resnet20", "which does not exist; give 'resnet20:FILE'"),
        ("resnet20:gone.safetensors", "received 'gone.safetensors', which does not exist"),
    ],
)
def test_what_there_is_not_is_refused(name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=words):
        build(name, weights=tmp_path)


def test_another_file_under_a_known_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / resnet.FOLDER).mkdir()
    (tmp_path / resnet.FOLDER / "resnet20.safetensors").write_bytes(b"other")
    with pytest.raises(RequestError, match="must be the known resnet20"):
        build("resnet20", weights=tmp_path)


@pytest.mark.parametrize("depth", SIZES)
def test_the_pretrained_ones_load(depth: int, weights: Path) -> None:
    stored = load_file(weights / resnet.FOLDER / f"resnet{depth}.safetensors")
    model = build(f"resnet{depth}", weights=weights).state_dict()
    assert all(torch.equal(model[name], t) for name, t in stored.items() if not name.startswith("linear."))


@pytest.mark.slow
def test_the_pretrained_one_classifies_as_well_as_it_is_known_to(weights: Path, data_folder: Path) -> None:
    images = pytest.importorskip("PIL.Image")
    model = build("resnet20", weights=weights).eval()
    stored = load_file(weights / resnet.FOLDER / "resnet20.safetensors")
    model.head.load_state_dict({"weight": stored["linear.weight"], "bias": stored["linear.bias"]})  # type: ignore[union-attr]
    index = np.load(data_folder / "cifar10_jpeg" / "test_index.npz")
    raw = lzma.decompress((data_folder / "cifar10_jpeg" / "test.jpgs.xz").read_bytes())
    ends = index["length"][:1000].cumsum()
    starts = ends - index["length"][:1000]
    pixels = np.stack([np.asarray(images.open(io.BytesIO(raw[a:b]))) for a, b in zip(starts, ends, strict=True)])
    with torch.no_grad():
        answers = model(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255).argmax(dim=1)
    accuracy = float((answers.numpy() == index["label"][:1000]).mean())
    assert 0.77 < accuracy < 0.86, "0.811 on the first 4,000"
