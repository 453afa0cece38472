"""What a model can be on disk and on the hub, and what is refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from idim.errors import RequestError
from idim.spectral.pairing.pairs import open_pairs
from idim.spectral.reading.folders import open_files
from idim.spectral.reading.hub import fetch, looks_like_name

WEIGHTS = {"a.weight": torch.arange(6.0).view(2, 3), "b.weight": torch.ones(3, 2)}


def opened(path: Path, **options: bool) -> dict[str, torch.Tensor]:
    source = open_files(path, str(path), **({"pickle": False} | options))
    return {name: source.read(name) for name in source.entries}


def holds_the_weights(path: Path, **options: bool) -> None:
    tensors = opened(path, **options)
    assert tensors.keys() == WEIGHTS.keys()
    assert all(torch.equal(tensors[name], WEIGHTS[name]) for name in WEIGHTS)


def sharded(folder: Path, *, suffix: str = "safetensors", index: bool = True) -> None:
    for i, (name, tensor) in enumerate(WEIGHTS.items()):
        file = folder / f"model-0000{i + 1}-of-00002.{suffix}"
        save_file({name: tensor}, file) if suffix == "safetensors" else torch.save({name: tensor}, file)
    if index:
        table = {name: f"model-0000{i + 1}-of-00002.{suffix}" for i, name in enumerate(WEIGHTS)}
        (folder / f"model.{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": table}))


def rewritten(folder: Path, change: object) -> None:
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"weight_map": change}))


@pytest.mark.parametrize("name", ["model.safetensors", "other.safetensors"])
def test_a_file_and_its_folder(tmp_path, name):
    save_file(WEIGHTS, tmp_path / name)
    torch.save({}, tmp_path / "pytorch_model.bin")  # ignored beside safetensors
    holds_the_weights(tmp_path)
    holds_the_weights(tmp_path / name)


def test_model_safetensors_goes_before_others(tmp_path):
    save_file(WEIGHTS, tmp_path / "model.safetensors")
    save_file({"x": torch.ones(1)}, tmp_path / "optimizer.safetensors")
    holds_the_weights(tmp_path)


@pytest.mark.parametrize("index", [True, False])
def test_shards_with_and_without_an_index(tmp_path, index):
    sharded(tmp_path, index=index)
    holds_the_weights(tmp_path)
    if index:
        holds_the_weights(tmp_path / "model.safetensors.index.json")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda f: (f / "model-00002-of-00002.safetensors").unlink(), "missing: 'model-00002-of-00002.safetensors'"),
        (
            lambda f: rewritten(f, {"a": "../model.safetensors"}),
            "must be in its folder; missing: '../model.safetensors'",
        ),
        (lambda f: rewritten(f, {"a": "/etc/hostname"}), "must be in its folder"),
        (lambda f: rewritten(f, {"a.weight": 3}), "must map tensors to files"),
        (lambda f: rewritten(f, []), "must map tensors to files"),
        (lambda f: rewritten(f, {"c": "model-00001-of-00002.safetensors"}), "must have what .* names; missing: 'c'"),
        (lambda f: (f / "model.safetensors.index.json").write_text("{"), "must be readable JSON"),
        (lambda f: (f / "model.safetensors.index.json").write_bytes(b"[" * 200000), "must be readable JSON"),
        (lambda f: (f / "model.safetensors.index.json").write_text("[]"), "must hold a JSON object"),
    ],
)
def test_a_damaged_index_is_named(tmp_path, change, fault):
    sharded(tmp_path)
    change(tmp_path)
    with pytest.raises(RequestError, match=fault):
        opened(tmp_path)


def test_a_missing_shard_without_an_index(tmp_path):
    sharded(tmp_path, index=False)
    (tmp_path / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(RequestError, match="all 2 shards must be there; received 1"):
        opened(tmp_path)


def test_two_models_in_one_folder(tmp_path):
    for name in ("one", "two"):
        save_file(WEIGHTS, tmp_path / f"{name}.safetensors")
    with pytest.raises(RequestError, match=r"one\.safetensors, two\.safetensors: name the file"):
        opened(tmp_path)


def test_what_is_no_model(tmp_path):
    (tmp_path / "readme.md").write_text("words")
    with pytest.raises(RequestError, match="a folder with safetensors files; received"):
        opened(tmp_path)
    with pytest.raises(RequestError, match=r"ends in \.safetensors; received .*readme\.md"):
        opened(tmp_path / "readme.md")
    save_file({}, tmp_path / "none.safetensors")
    with pytest.raises(RequestError, match="must have tensors"):
        opened(tmp_path)


def test_code_of_a_repository_is_noted_and_not_run(tmp_path):
    save_file(WEIGHTS, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"auto_map": {"AutoModel": "code.Model"}}')
    (tmp_path / "code.py").write_text("raise SystemExit('run')")
    pairs = open_pairs(tmp_path, tmp_path)
    assert [(row.name, "never run" in row.reason) for row in pairs.skipped] == [("config.json", True)]


# -- pickles -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: {"epoch": 3, "state_dict": t}, lambda t: {"model": t}])
@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_only_by_the_flag(tmp_path, wrap, zipped):
    path = tmp_path / "pytorch_model.bin"
    torch.save(wrap(dict(WEIGHTS)), path, _use_new_zipfile_serialization=zipped)
    torch.save({"lr": 3}, tmp_path / "training_args.bin")
    for place in (path, tmp_path):
        with pytest.raises(RequestError, match=r"can run code when it is opened; .* --pickle"):
            opened(place)
        holds_the_weights(place, pickle=True)


def test_sharded_pickles(tmp_path):
    sharded(tmp_path, suffix="bin")
    holds_the_weights(tmp_path, pickle=True)


class Bomb:
    """An object whose pickle would make a file when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return Path.touch, (self.path,)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    for save in (torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))):
        save({"w": Bomb(tmp_path / "run")}, tmp_path / "model.pt")
        with pytest.raises(RequestError, match=r"tensors and plain containers only; received .*model\.pt"):
            opened(tmp_path / "model.pt", pickle=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("raw", [b"", b"\x80", b"PK\3\4 no zip", bytes(100)])
def test_a_damaged_pickle_gives_one_line(tmp_path, raw):
    (tmp_path / "model.pt").write_bytes(raw)
    with pytest.raises(RequestError) as caught:
        opened(tmp_path / "model.pt", pickle=True)
    assert "\n" not in str(caught.value)


def test_a_pickle_without_tensors(tmp_path):
    torch.save({"lr": 3}, tmp_path / "model.pt")
    with pytest.raises(RequestError, match="must hold named tensors"):
        opened(tmp_path / "model.pt", pickle=True)


# -- names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["org/name", "name", "org/na.me-1@main", "org/name@refs/pr/1"])
def test_names_of_the_hub(name):
    assert looks_like_name(name)


@pytest.mark.parametrize("name", ["/no/such", "./x", "../x", "a/b/c", "a b", "", "x\n", "\0"])
def test_what_is_no_name_of_the_hub(name):
    assert not looks_like_name(name)
    with pytest.raises(RequestError, match="must be a file, a folder or a name of the hub"):
        open_pairs(name, name)


def test_the_hub_is_asked_for_tensors_and_json_only(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    asked = {}

    def snapshot(repository: str, **options: object) -> str:
        asked.update(options, repository=repository)
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    save_file(WEIGHTS, tmp_path / "model.safetensors")
    pairs = open_pairs("org/name@v2", tmp_path)
    assert (asked["repository"], asked["revision"]) == ("org/name", "v2")
    assert not any(pattern.endswith((".bin", ".py", ".pt")) for pattern in asked["allow_patterns"])
    assert pairs.base.place == "org/name@v2"
    fetch("org/name", pickle=True)
    assert "*.bin" in asked["allow_patterns"]


def test_without_a_connection_one_line_says_to_pass_a_folder(monkeypatch):
    hub = pytest.importorskip("huggingface_hub")

    def offline(repository: str, **_: object) -> str:
        raise OSError("no connection. Try again\nor pass another revision")

    monkeypatch.setattr(hub, "snapshot_download", offline)
    with pytest.raises(RequestError, match=r"'org/name': no such path here, .*no connection: pass a folder"):
        open_pairs("org/name", "org/name")


def test_short_names_are_resolved_by_the_caller(tmp_path):
    save_file(WEIGHTS, tmp_path / "model.safetensors")
    pairs = open_pairs("tiny", "tiny", resolve=lambda name: tmp_path if name == "tiny" else None)
    assert pairs.names == ("a.weight", "b.weight")
