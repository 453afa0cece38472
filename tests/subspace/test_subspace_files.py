"""Saved subspaces: small, whole, and refused beside a base that is not theirs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from subspace_cases import BatchNormNet, TiedAutoencoder, generator, mlp, randomised, shifted
from torch import nn

from idim.errors import RequestError
from idim.subspace import Subspace, stored

IMAGES = torch.randn(6, 1, 8, 8, generator=generator(1))


def trained(model: nn.Module, **options: object) -> Subspace:
    """Return a subspace after two steps."""
    space = Subspace(model, d=6, seed=2, **options)
    optimizer = torch.optim.Adam(space.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        space(IMAGES).square().sum().backward()
        optimizer.step()
    return space


def test_save_and_load_give_the_same_answers(tmp_path: Path) -> None:
    space = trained(randomised(BatchNormNet()), train="head.*", exclude="body.1.bias")
    space.save(tmp_path / "run")
    model = randomised(BatchNormNet())
    nn.init.constant_(model.head.weight, 7.0)  # a fresh head is not part of the base
    again = Subspace.load(tmp_path / "run", model)
    assert again.projection == space.projection
    assert torch.equal(again.z, space.z)
    assert torch.equal(again.eval()(IMAGES), space.eval()(IMAGES))
    again.train()(IMAGES).sum().backward()
    assert again.model.head.weight.grad is not None


def test_only_what_trained_or_changed_is_written(tmp_path: Path) -> None:
    trained(randomised(BatchNormNet()), train="head.*").save(tmp_path)
    record, tensors = stored.read(tmp_path)
    buffers = {f"model.body.1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
    assert set(tensors) == {"z", "model.head.weight", "model.head.bias"} | buffers
    assert record["projection"] == {"kind": "hadamard", "version": 1, "D": 48, "d": 6, "seed": 2}
    untrained = Subspace(randomised(BatchNormNet()), d=6)
    untrained.save(tmp_path)
    assert set(stored.read(tmp_path)[1]) == {"z"}


def test_a_large_model_saves_in_kilobytes(tmp_path: Path) -> None:
    Subspace(nn.Linear(1000, 1000), d=100).save(tmp_path)
    assert sum(f.stat().st_size for f in tmp_path.iterdir()) < 4096


def test_saving_again_replaces_and_leaves_other_files_alone(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("mine")
    space = Subspace(mlp(4, 3), d=3)
    for seed in range(3):
        shifted(space, seed=seed).save(tmp_path)
    names = sorted(f.name for f in tmp_path.iterdir())
    assert names[0] == "model.safetensors"
    assert names[2] == "subspace.json"
    assert len(names) == 3
    assert torch.equal(Subspace.load(tmp_path, mlp(4, 3)).z, space.z)


def test_an_interrupted_save_leaves_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = shifted(Subspace(mlp(4, 3), d=3))
    space.save(tmp_path)
    earlier = space.z.detach().clone()
    monkeypatch.setattr(stored, "write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        shifted(space, seed=9).save(tmp_path)
    assert torch.equal(Subspace.load(tmp_path, mlp(4, 3)).z, earlier)


def test_another_base_is_refused_with_both_hashes(tmp_path: Path) -> None:
    space = Subspace(mlp(4, 3), d=3)
    space.save(tmp_path)
    own = json.loads((tmp_path / "subspace.json").read_text())["base"]
    other = stored.digest(Subspace(mlp(4, 3, seed=1), d=3)._under(set()))
    with pytest.raises(RequestError) as caught:
        Subspace.load(tmp_path, mlp(4, 3, seed=1))
    assert f"with hash {own}; received {other}" in str(caught.value)


@pytest.mark.parametrize("part", ["frozen", "buffer", "dtype"])
def test_every_part_of_the_base_counts(tmp_path: Path, part: str) -> None:
    Subspace(randomised(BatchNormNet()), d=3, exclude="head.*").save(tmp_path)
    model = randomised(BatchNormNet())
    if part == "frozen":
        model.head.weight.data[0, 0] += 1e-3
    elif part == "buffer":
        model.body[1].running_mean[0] = 0.5
    else:
        model.double()
    with pytest.raises(RequestError, match="must be the base"):
        Subspace.load(tmp_path, model)


def test_a_model_of_another_size_is_refused(tmp_path: Path) -> None:
    Subspace(mlp(4, 3), d=3).save(tmp_path)
    with pytest.raises(RequestError, match="must have D = 24 rows, as the model; received D = 15"):
        Subspace.load(tmp_path, mlp(5, 4))


def test_tied_weights_are_saved_once_and_loaded_tied(tmp_path: Path) -> None:
    space = Subspace(randomised(TiedAutoencoder()), d=6, train="out.*")
    space.model.out.weight.data.add_(1)
    space.save(tmp_path)
    again = Subspace.load(tmp_path, randomised(TiedAutoencoder()))
    assert torch.equal(again.model.table.weight, space.model.table.weight)
    assert again.model.out.weight is again.model.table.weight


def test_half_precision_models_are_loaded_onto_their_own_base(tmp_path: Path) -> None:
    space = shifted(Subspace(mlp(4, 3), d=3).to(torch.bfloat16))
    space.save(tmp_path)
    again = Subspace.load(tmp_path, mlp(4, 3).to(torch.bfloat16))
    x = torch.ones(2, 4, dtype=torch.bfloat16)
    assert again.z.dtype == torch.float32
    assert torch.equal(again(x), space(x))


def change(folder: Path, **fields: object) -> None:
    record = json.loads((folder / "subspace.json").read_text())
    (folder / "subspace.json").write_text(json.dumps(record | fields))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: shutil.rmtree(f), "has a readable subspace.json; received"),
        (lambda f: (f / "subspace.json").write_text("{"), "has a readable subspace.json; received"),
        (lambda f: (f / "subspace.json").write_bytes(b"\xff\xfe"), "has a readable subspace.json; received"),
        (lambda f: (f / "subspace.json").write_text("[]"), "says format 'idim.subspace'"),
        (lambda f: change(f, version=2), "subspaces of version 1; received version 2"),
        (lambda f: change(f, projection=[]), "field 'projection' of"),
        (lambda f: change(f, projection={"kind": "hadamrd"}), "unknown projection 'hadamrd'"),
        (lambda f: change(f, projection={"kind": "hadamard", "version": 1, "n": 3}), "must hold its fields; received"),
        (lambda f: change(f, tensors="../../elsewhere.safetensors"), "must stand beside its tensors"),
        (lambda f: change(f, include=["b*"]), "must have D = 3 rows"),
        (lambda f: change(f, train=["bias"], include=["*"]), "must have D = 12 rows"),
        (lambda f: next(f.glob("*.safetensors")).write_bytes(b"short"), "must stand beside its tensors"),
    ],
)
def test_damaged_saves_are_refused_in_one_line(tmp_path: Path, damage: object, words: str) -> None:
    Subspace(mlp(4, 3)[0], d=3).save(tmp_path / "run")
    damage(tmp_path / "run")
    with pytest.raises(RequestError) as caught:
        Subspace.load(tmp_path / "run", mlp(4, 3)[0])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tensors_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    space = Subspace(mlp(4, 3), d=3)
    for tensors, words in [
        ({"z": torch.zeros(4)}, r"tensor 'z' must have shape \[3\]; received \[4\]"),
        ({}, r"must be \['z'\] and buffers; received \[\]"),
        ({"z": torch.zeros(3), "theta0.1": torch.zeros(1)}, "and buffers; received"),
    ]:
        record = {"projection": space.projection.spec, **space.patterns, "base": stored.digest(space._under(set()))}
        stored.write(tmp_path, record, tensors)
        with pytest.raises(RequestError, match=words):
            Subspace.load(tmp_path, mlp(4, 3))


def test_an_unwritable_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="must be writable"):
        Subspace(mlp(4, 3), d=3).save(tmp_path / "file" / "run")
