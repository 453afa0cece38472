"""Networks that start from a file: burn-in."""

from __future__ import annotations

import dataclasses
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from idim import models, tasks
from idim.errors import RequestError
from idim.runs import Keep, RunSpec, Serial, Store
from idim.runs.artifacts import step_name

SHAPE, OUTPUTS = (64,), 10


def built(name, seed=0):
    return models.build(name, input_shape=SHAPE, outputs=OUTPUTS, seed=seed)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a@b.safetensors"
    save_file(dict(built("mlp:8", seed=7).state_dict()), path)
    return path


def test_a_network_starts_from_the_file_whatever_the_seed(file):
    for seed in (0, 1):
        found = built(f"start:{file}:mlp:8", seed=seed).state_dict()
        assert all(torch.equal(found[name], tensor) for name, tensor in load_file(file).items())
    assert models.is_pretrained(f"start:{file}:mlp:8")
    assert not models.reads_texts(f"start:{file}:mlp:8")


def test_the_name_has_the_hash_of_the_file(file):
    pinned = models.resolve(f"start:{file}:mlp:8")
    assert pinned.startswith(f"start:{file}@")
    assert pinned.endswith(":mlp:8")
    assert models.resolve(pinned) == pinned
    save_file(dict(built("mlp:8", seed=8).state_dict()), file)
    with pytest.raises(RequestError, match=r"as it was when the run was asked for, \w{16}; received \w{16}"):
        built(pinned)


def test_burn_in_is_a_run_around_a_checkpoint(tmp_path):
    task = tasks.load("digits")
    full = RunSpec(
        task="digits",
        fingerprint=task.fingerprint,
        model="mlp:8",
        method="full",
        lr=0.01,
        recipe=dataclasses.replace(task.recipe, steps=40),
        seed=0,
    )
    with Store(tmp_path / "store") as store:
        keep = Keep(folder=store.path / "artifacts", steps=(20,))
        with Serial(store, keep=keep) as engine:
            engine.map([full])
        checkpoint = keep.path(full) / step_name(20)
        moved = shutil.copy(checkpoint, tmp_path / "moved.safetensors")
        name = models.resolve(f"start:{checkpoint}:mlp:8")
        inside = dataclasses.replace(full, method="subspace", projection="hadamard", d=5, lr=0.05, model=name)
        elsewhere = dataclasses.replace(inside, model=models.resolve(f"start:{moved}:mlp:8"))
        assert elsewhere.key == inside.key != dataclasses.replace(inside, model="mlp:8").key
        plain = dataclasses.replace(inside, model="mlp:8")
        with Serial(store) as engine:
            found = engine.map([inside, plain])
    assert found[inside.key].result.score > found[plain.key].result.score + 0.2


def test_what_is_no_start_is_refused(file, tmp_path):
    save_file({"0.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    (tmp_path / "short.safetensors").write_bytes(file.read_bytes()[:-1])
    for name, message in (
        (f"start:{file}:mlp:9", r"must have shape \[9, 64\]; received \[8, 64\]"),
        (f"start:{tmp_path}/other.safetensors:mlp:8", "must hold all of the network's tensors|must have shape"),
        (f"start:{tmp_path}/short.safetensors:mlp:8", "a start must be a safetensors file; received"),
        ("start:nowhere.safetensors:mlp:8", r"received 'nowhere\.safetensors': no such file"),
        ("start:mlp:8", "a start is written start:FILE.safetensors:MODEL; received 'start:mlp:8'"),
        (f"start:{file}:mpl", "unknown model 'mpl'; did you mean 'mlp'"),
    ):
        with pytest.raises(RequestError, match=message):
            built(name)
