"""Networks of the user's own: by path, with their file in their name."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from idim import measure, models, tasks
from idim.errors import RequestError
from idim.runs import RunSpec, Serial, Store, run

NET = """
import torch
from torch import nn

def build(input_shape, outputs, generator):
    layer = nn.Linear(input_shape[-1] * input_shape[-2], outputs)
    nn.init.normal_(layer.weight, std=0.1, generator=generator)
    nn.init.zeros_(layer.bias)
    return nn.Sequential(nn.Flatten(), layer)

def broken(input_shape, outputs, generator):
    raise KeyError("weights")

def number(input_shape, outputs, generator):
    return 3

def leaves(input_shape, outputs, generator):
    raise SystemExit(0)

def careless(input_shape, outputs, generator):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.Dropout(0.5), nn.Linear(20, outputs))
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """Return a file with networks."""
    path = tmp_path / "net.py"
    path.write_text(NET)
    return path


def test_a_function_of_a_file_is_a_model(net: Path) -> None:
    first, again, other = (
        models.build(f"{net}:build", input_shape=(1, 8, 8), outputs=10, seed=seed) for seed in (0, 0, 1)
    )
    assert sum(p.numel() for p in first.parameters()) == 650
    assert torch.equal(first[1].weight, again[1].weight)
    assert not torch.equal(first[1].weight, other[1].weight)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("nothing", "must have a function 'nothing'"),
        ("broken", "failed with KeyError: 'weights'"),
        ("number", "must return a torch.nn.Module; received int"),
        ("leaves", "failed with SystemExit: 0"),
    ],
)
def test_what_is_no_model_is_one_line(function: str, said: str, net: Path) -> None:
    with pytest.raises(RequestError, match=said) as caught:
        models.build(f"{net}:{function}", input_shape=(1, 8, 8), outputs=10, seed=0)
    assert "\n" not in str(caught.value)


def test_missing_and_unreadable_files_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="which does not exist"):
        models.resolve(f"{tmp_path}/no.py:build")
    (tmp_path / "bad.py").write_text("def build(:\n")
    with pytest.raises(RequestError, match="failed with SyntaxError"):
        models.build(f"{tmp_path}/bad.py:build", input_shape=(1, 8, 8), outputs=10, seed=0)


def test_the_file_is_part_of_the_run(net: Path) -> None:
    name = models.resolve(f"{net}:build")
    assert models.resolve(name) == name
    net.write_text(NET + "# changed\n")
    assert models.resolve(f"{net}:build") != name
    with pytest.raises(RequestError, match="must be as it was when the run was asked for"):
        models.build(name, input_shape=(1, 8, 8), outputs=10, seed=0)


def test_a_folder_may_have_an_at_sign(tmp_path: Path) -> None:
    net = tmp_path / "me@home" / "net.py"
    net.parent.mkdir()
    net.write_text(NET)
    name = models.resolve(f"{net}:build")
    assert models.resolve(name) == name
    assert models.build(name, input_shape=(1, 8, 8), outputs=10, seed=0)


def make_spec(name: str, **changes: object) -> RunSpec:
    digits = tasks.load("digits")
    recipe = dataclasses.replace(digits.recipe, steps=20)
    given = {"task": "digits", "fingerprint": digits.fingerprint, "model": models.resolve(name), "recipe": recipe}
    return RunSpec(method="full", lr=1e-2, **({"seed": 0} | given | changes))  # type: ignore[arg-type]


def test_a_run_owns_the_global_generator_that_dropout_and_careless_layers_draw_from(net: Path) -> None:
    before = torch.get_rng_state()
    first = run(make_spec(f"{net}:careless"))
    assert torch.equal(torch.get_rng_state(), before), "the caller's generator is given back"
    torch.rand(3)
    assert run(make_spec(f"{net}:careless")) == first
    assert run(make_spec(f"{net}:careless", seed=1)) != first


def test_a_file_that_changes_during_a_sweep_stops_it_and_is_no_result(net: Path, tmp_path: Path) -> None:
    specs = [make_spec(f"{net}:build", seed=seed) for seed in range(2)]
    with Store(tmp_path / "store") as store:
        with pytest.raises(RequestError, match="must be as it was when the run was asked for"):
            Serial(store).map(specs, lambda _: net.write_text(NET + "# changed"))  # type: ignore[arg-type,return-value]
        assert store.counts() == {"done": 1}


def test_it_is_measured_like_any_other(net: Path, tmp_path: Path) -> None:
    options = {"dims": "5,50", "seeds": 1, "steps": 30, "lr": "1/sqrt(d)", "bar": "absolute:0.5", "quiet": True}
    places = {"out": tmp_path / "out", "store": tmp_path / "store"}
    result = measure(f"{net}:build", "digits", workers=1, **options, **places)  # type: ignore[arg-type]
    assert result.D == 650
    assert "@" in result.model
    assert {row["spec"]["model"] for row in Store.read(tmp_path / "store").rows()} == {result.model}
