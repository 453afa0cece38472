"""A basis in runs: named by its hash, refused where it does not fit, searched up to its columns."""

from __future__ import annotations

import dataclasses
import shutil

import pytest
from cases import orthonormal

import idim
from idim import models, tasks
from idim.cli import main
from idim.errors import RequestError
from idim.learned.basis_writer import save_basis
from idim.methods import parse
from idim.projections import resolve
from idim.runs import RunSpec, Serial, Store

TASK = "digits"


def network(seed=0):
    task = tasks.load(TASK)
    return models.build("mlp:8", input_shape=task.input_shape, outputs=task.outputs, seed=seed)


def write(path, columns=12, **options):
    tensors = {name: p.detach() for name, p in network().named_parameters()}
    D = sum(t.numel() for t in tensors.values())
    save_basis(path, orthonormal(D, columns, 0), tensors, learned={}, **options)
    return path


@pytest.fixture
def basis(tmp_path):
    return write(tmp_path / "basis.safetensors")


def spec(projection, **changes):
    task = tasks.load(TASK)
    fields = {
        "task": TASK,
        "fingerprint": task.fingerprint,
        "model": "mlp:8",
        "method": "subspace",
        "projection": projection,
        "d": 5,
        "lr": 0.5,
        "recipe": dataclasses.replace(task.recipe, steps=4),
        "seed": 0,
    }
    return RunSpec(**fields | changes)


def test_a_run_has_the_key_of_its_basis_wherever_that_lies(basis, tmp_path):
    (tmp_path / "b@sis").mkdir()
    other = shutil.copy(basis, tmp_path / "b@sis" / "copy.safetensors")
    here, there = spec(resolve(f"basis:{basis}")), spec(resolve(f"basis:{other}"))
    assert here.projection != there.projection
    assert here.key == there.key
    scaled = spec(resolve(f"layerwise:basis:{basis}"))
    assert len({here.key, scaled.key, spec("hadamard").key}) == 3
    assert RunSpec.from_json(here.to_json()) == here
    write(basis, columns=11)
    assert spec(resolve(f"basis:{basis}")).key != here.key
    with pytest.raises(RequestError, match=r"a run names a basis by its hash, basis:FILE@HASH; received 'basis:"):
        spec(f"basis:{basis}")


def test_runs_train_in_a_basis_and_only_from_where_it_starts(basis, tmp_path):
    name = resolve(f"basis:{basis}")
    with Store(tmp_path / "store") as store, Serial(store) as engine:
        good, far = spec(name), spec(name, seed=1)
        found = engine.map([good, far])
        assert found[good.key].result.trained == 5
        assert "starts from, with hash" in found[far.key].message
        again = engine.map([spec(name, lr=0.25)])
        assert len(again) == 1
        basis.unlink()
        with pytest.raises(RequestError, match="no such file"):
            engine.map([spec(name, lr=0.125)])


def test_a_measure_searches_up_to_the_columns(basis, tmp_path):
    asked = {
        "task": TASK,
        "model": "mlp:8",
        "projection": f"basis:{basis}",
        "bar": "absolute:0.2",
        "lr": "0.5",
        "steps": 20,
        "engine": "serial",
        "quiet": True,
    }
    found = idim.measure(**asked, seeds=1, out=tmp_path / "out")
    assert max(point.d for point in found.curve) <= 12
    assert found.projection == resolve(f"basis:{basis}")
    with pytest.raises(RequestError, match=r"starts from, .* \(seed 1; --seeds 1 leaves it out\)"):
        idim.measure(**asked, seeds=2, out=tmp_path / "two")
    with pytest.raises(RequestError, match="at most the 12 columns"):
        idim.measure(**asked, seeds=1, dims="5,13", out=tmp_path / "three")


def test_a_sweep_takes_a_basis(basis, tmp_path, capsys):
    grid = tmp_path / "grid.yaml"
    grid.write_text(
        f"task: {TASK}\nmodel: 'mlp:8'\nprojection: 'basis:{basis}'\nd: [2, 12]\nlr: 0.5\nrecipe: {{steps: 3}}\n"
    )
    with pytest.raises(SystemExit) as left:
        main(["sweep", str(grid), "--engine", "serial", "--store", str(tmp_path / "store"), "--quiet"])
    assert left.value.code == 0, capsys.readouterr().err
    grid.write_text(grid.read_text().replace("12]", "13]"))
    with pytest.raises(SystemExit) as left:
        main(["sweep", str(grid), "--dry-run", "--store", str(tmp_path / "store")])
    assert left.value.code == 2
    assert "d must be at most the 12 columns of the basis" in capsys.readouterr().err


def test_a_method_names_a_basis_by_its_hash(basis):
    with pytest.raises(RequestError, match=r"method 'did' names a basis by its hash; received 'basis:"):
        parse(f"did:d=5,projection=basis:{basis}")
    assert parse(f"did:d=5,projection={resolve(f'basis:{basis}')}").kind == resolve(f"basis:{basis}")
