"""A stored basis: what its columns are, which models it fits, and what is refused."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from cases import orthonormal
from laws import normal, same
from safetensors.torch import load_file, save_file
from torch import nn

import idim
from idim.errors import RequestError
from idim.learned.basis_writer import basis_writer, half_scale, save_basis
from idim.parameters import Layout, choose
from idim.projections import Basis, create, load, most_d, resolve
from idim.projections.basis_file import open_basis

PRECISIONS = {"float32": 2.0**-23, "bfloat16": 2.0**-8, "float16": 2.0**-10}


def small_net(seed=0, hidden=6):
    net = nn.Sequential(nn.Linear(5, hidden), nn.ReLU(), nn.Linear(hidden, 3))
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return net


def tensors_of(net):
    return {name: p.detach() for name, p in net.named_parameters()}


@pytest.fixture
def net():
    return small_net()


@pytest.fixture
def basis(tmp_path, net):
    path = tmp_path / "basis.safetensors"
    save_basis(path, orthonormal(57, 8, 1), tensors_of(net), learned={"how": "drawn"})
    return path


@pytest.mark.parametrize("precision", PRECISIONS)
def test_columns_come_back_as_they_were_rounded(tmp_path, net, precision):
    columns, path = orthonormal(57, 8, 1), tmp_path / "basis.safetensors"
    save_basis(path, columns, tensors_of(net), learned={}, precision=precision)
    for d in (1, 5, 8):
        P = create(f"basis:{path}", D=57, d=d, seed=3)
        same(P.to_dense(), columns[:, :d], PRECISIONS[precision])
        for row in range(57):  # an entry that is rounded is off by its own size, not by that of the largest
            error = (P.to_dense()[row] - columns[row, :d]).abs()
            assert bool((error <= PRECISIONS[precision] * columns[row, :d].abs() + 1e-12).all())


def test_a_basis_is_a_safetensors_file_of_columns_by_parameter(basis, net):
    stored = load_file(basis)
    assert {name: list(t.shape) for name, t in stored.items()} == {n: [8, *t.shape] for n, t in tensors_of(net).items()}
    flat = torch.cat([stored[name].reshape(8, -1) for name in tensors_of(net)], dim=1)
    same(flat.T.double(), orthonormal(57, 8, 1), 2.0**-23)


def test_parameters_may_share_columns_in_blocks(tmp_path):
    layout = Layout.of({"a": torch.zeros(4), "b": torch.zeros(3, 2), "c": torch.zeros(5)})
    first, second = orthonormal(10, 2, 1), orthonormal(5, 3, 2)
    path = tmp_path / "blocks.safetensors"
    with basis_writer(path, layout, [(2, [0, 3]), (1, [1, 2, 4])], learned={}) as writer:
        writer.write(2, 0, second.T)
        writer.write(0, 0, first[:4].T)
        writer.write(1, 0, first[4:7].T)
        writer.write(1, 3, first[7:].T)
    expected = torch.zeros(15, 5, dtype=torch.float64)
    expected[:10, [0, 3]], expected[10:, [1, 2, 4]] = first, second
    for d in (1, 3, 5):
        P = Basis(D=15, d=d, path=str(path))
        same(P.to_dense(), expected[:, :d], 2.0**-23)
        same(P.rmatvec(normal(15)), expected[:, :d].T @ normal(15), 2.0**-20)
        same(P._lift_reference(normal(d), 0, 15), P.matvec(normal(d)))
        same(P._pull_reference(normal(15), 0), P.rmatvec(normal(15)))


def test_a_subspace_moves_along_the_columns_in_the_order_of_its_model(basis, net):
    class Turned(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.last, self.first = inner[2], inner[0]

        def forward(self, x):
            return self.last(self.first(x).relu())

    wrapped = nn.ModuleDict({"body": copy.deepcopy(net)})  # the same names under a prefix
    space = idim.Subspace(wrapped, projection=f"basis:{basis}", d=8)
    space.z.data = normal(8, dtype=torch.float32)
    moved = torch.cat([t.reshape(-1) for t in space.theta().values()])
    theta0 = torch.cat([t.reshape(-1) for t in tensors_of(net).values()])
    same(moved, theta0 + (orthonormal(57, 8, 1) @ space.z.detach().double()).float(), 1e-6)
    with pytest.raises(RequestError, match=r"8 differ, such as '0.bias', only in the basis"):
        idim.Subspace(Turned(copy.deepcopy(net)), projection=f"basis:{basis}", d=8)


def test_the_rows_follow_a_model_that_names_its_parameters_in_another_order(tmp_path, net):
    tensors = dict(reversed(tensors_of(net).items()))
    save_basis(tmp_path / "turned.safetensors", orthonormal(57, 8, 1), tensors, learned={})
    space = idim.Subspace(net, projection=f"basis:{tmp_path / 'turned.safetensors'}", d=3)
    space.z.data = normal(3, dtype=torch.float32)
    flat = orthonormal(57, 8, 1)[:, :3] @ space.z.detach().double()
    for name, moved in Layout.of(tensors).unflatten([flat]).items():
        same(space.theta()[name], tensors[name] + moved, 1e-6)
    assert load(json.loads(json.dumps(space.projection.spec))) == space.projection
    loss = space(normal((4, 5), dtype=torch.float32)).square().sum()
    loss.backward()
    assert space.z.grad is not None
    names = dict(space.projection.spec)
    assert names["order"] == [3, 2, 1, 0]


def test_the_gradient_is_that_of_finite_differences(basis, net):
    space = idim.Subspace(net.double(), projection=fits_any(basis.parent, net), d=8)
    x = normal((4, 5))

    def loss(z):
        space.z.data = z
        return space(x).square().mean()

    z = normal(8)
    loss(z).backward()
    for j, e in enumerate(torch.eye(8, dtype=torch.float64)):
        slope = (loss(z + 1e-6 * e) - loss(z - 1e-6 * e)).detach() / 2e-6
        assert float(space.z.grad[j]) == pytest.approx(float(slope), rel=1e-6, abs=1e-8)


def fits_any(folder, net):
    save_basis(folder / "any.safetensors", orthonormal(57, 8, 1), tensors_of(net), learned={}, fits_any=True)
    return f"basis:{folder / 'any.safetensors'}"


def test_a_subspace_is_saved_and_loaded_with_its_basis(basis, net, tmp_path):
    space = idim.Subspace(net, projection=f"basis:{basis}", d=4)
    space.z.data = normal(4, dtype=torch.float32)
    space.save(tmp_path / "saved")
    again = idim.Subspace.load(tmp_path / "saved", net)
    assert all(torch.equal(t, space.theta()[name]) for name, t in again.theta().items())
    basis.unlink()
    with pytest.raises(RequestError, match=rf"needs a basis with hash {space.projection.digest}; .* no such file"):
        idim.Subspace.load(tmp_path / "saved", net)


def test_a_basis_fits_its_own_parameters_and_any_only_when_it_says_so(basis, net):
    other = small_net(seed=1)
    with pytest.raises(RequestError, match=r"the basis .* starts from, with hash \w{32}; received \w{32}: take the"):
        idim.Subspace(other, projection=f"basis:{basis}", d=8)
    assert idim.Subspace(other, projection=fits_any(basis.parent, net), d=8).d == 8
    with pytest.raises(RequestError, match=r"as many rows as the model has parameters, D = 66; received .* 57 rows"):
        idim.Subspace(small_net(hidden=7), projection=f"basis:{basis}", d=8)


def test_layer_scales_go_with_a_basis_in_the_order_of_the_model(basis, net):
    space = idim.Subspace(net, projection=f"layerwise:basis:{basis}", d=6)
    assert (space.projection.scales, space.projection.projection.d) == (2, 4)
    assert most_d(f"layerwise:basis:{basis}", D=57, layers=space.layout.layers) == 10


def test_a_name_has_the_hash_of_the_file(basis, net):
    pinned = resolve(f"basis:{basis}")
    assert pinned == resolve(pinned) == f"basis:{basis}@{Basis(D=57, d=2, path=str(basis)).digest}"
    assert resolve(f"layerwise:basis:{basis}") == f"layerwise:{pinned}"
    assert (resolve("hadamard"), resolve("dense:gaussian")) == ("hadamard", "dense:gaussian")
    assert most_d(f"basis:{basis}", D=57) == 8
    save_basis(basis, orthonormal(57, 8, 2), tensors_of(net), learned={})
    with pytest.raises(RequestError, match=r"must have the hash \w{16}; received \w{16}"):
        create(pinned, D=57, d=2, seed=0)


def test_bad_files_are_refused(basis, tmp_path, net):
    content = basis.read_bytes()
    assert open_basis(str(basis)).columns == 8
    for name, text, message in (
        ("short", content[:-1], "must be a whole safetensors file; received .*short"),
        ("shorter", content[:100], "must be a whole safetensors file"),
        ("empty", b"", "must be a whole safetensors file"),
        ("format", content.replace(b'\\"format\\": 1', b'\\"format\\": 7'), "a basis of format 1; received .* 7"),
        ("blocks", content.replace(b"[[4, [0,", b"[[4, [7,"), "blocks of a basis must share out its names"),
        ("scale", content.replace(b'\\"scale\\": 1.0', b'\\"scale\\": 0.0'), "scale of a basis must be above 0"),
    ):
        (tmp_path / name).write_bytes(text)
        with pytest.raises(RequestError, match=message):
            create(f"basis:{tmp_path / name}", D=57, d=2, seed=0)
    save_file({"a": torch.zeros(3)}, tmp_path / "plain")
    with pytest.raises(RequestError, match=r"a basis has metadata 'idim.basis'; received .*plain without"):
        create(f"basis:{tmp_path / 'plain'}", D=57, d=2, seed=0)


def test_more_columns_than_there_are_is_one_line(basis):
    with pytest.raises(RequestError, match=r"d must be at most the 8 columns of the basis .*; received d = 9"):
        create(f"basis:{basis}", D=57, d=9, seed=0)
    with pytest.raises(RequestError, match=r"received 'none\.safetensors': no such file"):
        create("basis:none.safetensors", D=57, d=9, seed=0)


def test_columns_that_are_no_basis_are_not_written(tmp_path, net):
    path = tmp_path / "basis.safetensors"
    for columns, message in (
        (orthonormal(57, 8, 1) * 1.1, "must be orthonormal; received some that are 0.21 off"),
        (orthonormal(56, 8, 1), r"must have shape \[57, k\]; received \[56, 8\]"),
        (orthonormal(57, 8, 1) * float("nan"), "must be orthonormal; received some that are nan off"),
    ):
        with pytest.raises(RequestError, match=message):
            save_basis(path, columns, tensors_of(net), learned={})
    with pytest.raises(RequestError, match="unknown precision of a basis 'float8'; "):
        save_basis(path, orthonormal(57, 8, 1), tensors_of(net), learned={}, precision="float8")
    assert not path.exists()
    assert [p.name for p in tmp_path.iterdir()] == []


@pytest.mark.parametrize("D", [1, 57, 22_713_986, 10**11])
def test_float16_keeps_entries_of_usual_size_and_of_one(D):
    scale = half_scale(D)
    assert scale == 2.0 ** round(torch.tensor(scale).log2().item())
    assert 1 / scale < 65504
    assert D > 2**32 or 0.7 <= D**-0.5 / scale <= 1.5


def test_a_selection_of_tensors_has_a_basis_of_its_own(tmp_path, net):
    tensors = choose(net, exclude="2.*").inside
    save_basis(tmp_path / "part.safetensors", orthonormal(36, 4, 1), tensors, learned={})
    space = idim.Subspace(net, projection=f"basis:{tmp_path / 'part.safetensors'}", d=4, train="2.*")
    assert (space.D, space.d) == (36, 4)
