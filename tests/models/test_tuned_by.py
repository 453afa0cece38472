"""Networks with a method on them, named as models: what they train, and what is refused."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from safetensors.torch import load_file, save_file
from text_cases import sentences, tiny_bert, write_csv

from idim import models, tasks
from idim.dimension.measure import run_measure
from idim.dimension.request import MeasureRequest
from idim.errors import RequestError
from idim.methods import CannotAttach
from idim.models import tuned_by
from idim.runs import Keep, RunSpec, Serial, Store, networks
from idim.tasks import Recipe


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned")
    tiny_bert(folder / "net")
    write_csv(folder / "a.csv", sentences(200))
    return folder


def built(name, **options):
    return networks.build(name, **{"input_shape": (), "outputs": 2, "seed": 0} | options)


def test_what_moves_is_what_the_method_adds_and_the_head(place):
    for method, found in (
        ("prompt:length=3", ["body.prompt.values"]),
        ("bitfit", None),
        ("lora:rank=1,targets=qv", None),
    ):
        net = built(f"with:{method}:{place / 'net'}")
        moving = [n for n, p in net.named_parameters() if p.requires_grad and not n.startswith("head.")]
        assert moving
        assert found is None or moving == found
        assert all(p.requires_grad for p in net.head.parameters())
        assert not any(p.requires_grad for n, p in net.named_parameters() if "word_embeddings.weight" in n)


def test_the_start_is_that_of_the_seed_whatever_the_task(place):
    name = f"with:prompt:length=3:{place / 'net'}"
    one, same, other = (built(name, outputs=k, seed=s).body.prompt.values for k, s in ((2, 0), (5, 0), (2, 1)))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_names_are_read_and_resolved(place):
    name = f"with:prompt:length=3:{place / 'net'}"
    pinned = models.resolve(name)
    assert pinned == models.resolve(pinned)
    assert pinned.startswith(f"with:prompt:length=3:{place / 'net'}@")
    assert models.reads_texts(name)
    assert models.is_pretrained(name)
    assert not models.reads_texts("with:bitfit:mlp:8")
    assert (tuned_by.method("with:adapter+bitfit:mlp:8,8"), tuned_by.inside("with:adapter+bitfit:mlp:8,8")) == (
        "adapter+bitfit",
        "mlp:8,8",
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("with:bitfit", "is written with:METHOD:MODEL; received 'with:bitfit'"),
        ("with:lore:mlp:8", "unknown method 'lore'; did you mean 'lora'"),
        ("with:adalora:mlp:8", "takes a method that adds parameters to a network, or chooses some, and no more"),
        ("with:did:d=3:mlp:8", "takes a method that adds parameters"),
        ("with:bitfit:with:bitfit:mlp:8", "must be the outermost, and is trained as it is"),
    ],
)
def test_what_is_no_such_network_is_refused(name, message):
    with pytest.raises(RequestError, match=message):
        networks.build(name, input_shape=(64,), outputs=10, seed=0)


def test_a_method_without_a_place_is_refused():
    with pytest.raises(CannotAttach, match="method 'prompt' looks for a transformer"):
        networks.build("with:prompt:mlp:8", input_shape=(64,), outputs=10, seed=0)


def test_a_head_comes_from_a_file_and_nothing_else(place, tmp_path):
    file = tmp_path / "head.safetensors"
    save_file({"head.weight": torch.ones(2, 16), "head.bias": torch.arange(2.0)}, file)
    plain, started = built(str(place / "net")), built(f"head:{file}:{place / 'net'}")
    assert torch.equal(started.head.weight, torch.ones(2, 16))
    assert all(torch.equal(a, b) for a, b in zip(plain.body.parameters(), started.body.parameters(), strict=True))
    name = models.resolve(f"with:prompt:head:{file}:{place / 'net'}")
    assert torch.equal(built(name).head.bias, torch.arange(2.0))
    assert f"head:{file}@" in name
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(file.read_bytes())
    spec = spec_of(place, name)
    elsewhere = dataclasses.replace(spec, model=models.resolve(f"with:prompt:head:{moved}:{place / 'net'}"))
    assert elsewhere.key == spec.key
    save_file({"head.weight": torch.zeros(2, 16), "head.bias": torch.zeros(2)}, moved)
    assert dataclasses.replace(spec, model=models.resolve(f"head:{moved}:{place / 'net'}")).key != spec.key
    for wrong, message in (
        (f"head:{file}:mlp:8", "needs a network with a fresh last layer; received 'mlp:8'"),
        ("head:none.safetensors:mlp:8", "model 'head:FILE:MODEL' needs a safetensors file"),
        ("head:mlp:8", "a start is written head:FILE.safetensors:MODEL"),
    ):
        with pytest.raises(RequestError, match=message):
            networks.build(wrong, input_shape=(64,), outputs=10, seed=0)


def spec_of(place, model, **changes):
    task = tasks.load(f"csv:{place}/a.csv")
    fields = {"task": task.name, "fingerprint": task.fingerprint, "model": model, "method": "full", "lr": 0.05}
    recipe = Recipe(optimizer="adamw", batch_size=8, steps=6, length=16)
    return RunSpec(**fields | {"recipe": recipe, "seed": 0, "head": "frozen"} | changes)


def test_runs_keep_the_tensors_asked_for(place, tmp_path):
    spec = spec_of(place, models.resolve(f"with:prompt:length=2:{place / 'net'}"))
    keep = Keep(folder=tmp_path / "artifacts", only=("prompt.*",))
    with Store(tmp_path / "store") as store, Serial(store, keep=keep) as engine:
        result = engine.map([spec])[spec.key].result
    before, after = (load_file(keep.path(spec) / name) for name in ("base.safetensors", "tuned.safetensors"))
    assert list(before) == list(after) == ["prompt.values"]
    assert not torch.equal(before["prompt.values"], after["prompt.values"])
    assert (result.trained, result.D) == (32, 32 + 34)
    assert Keep.from_json(keep.to_json()) == keep


def test_the_dimension_of_prompt_tuning_is_measured_like_any_other(place, tmp_path):
    request = MeasureRequest(
        task=f"csv:{place}/a.csv", model=f"with:prompt:length=2:{place / 'net'}", dims="2,8", bar="absolute:0.3",
        steps=4, length=16, seeds=1, reference_seeds=1, lr="0.5", reference_lr=0.05, engine="serial", quiet=True,
        out=tmp_path / "out",
    )  # fmt: skip
    assert run_measure(request).D == 32


def test_methods_are_not_put_on_top(place):
    name = f"with:bitfit:{place / 'net'}"
    with pytest.raises(
        RequestError, match=r"trains what that has added, in full or in a subspace; .* with method 'lora'"
    ):
        spec_of(place, name, method="lora", head="trained")
    assert spec_of(place, name, method="untuned").model == name
