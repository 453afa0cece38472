"""Saved subspaces as changes of their base: the same numbers as the merged model, from files alone."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from idim import projections
from idim.errors import RequestError
from idim.learned.basis_writer import save_basis
from idim.spectral.pairing.pairs import Pairs, open_pairs
from idim.subspace import Subspace

KINDS = ["hadamard", "fastfood", "dense", "sparse", "uniform", "kronecker", "layerwise:hadamard"]


class Net(nn.Module):
    """Matrices, a convolution, a norm with buffers, tied weights, and experts."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)
        self.embed, self.head = nn.Embedding(9, 6), nn.Linear(6, 9, bias=False)
        self.head.weight = self.embed.weight
        self.experts = nn.Parameter(torch.zeros(3, 5, 4))
        self.classifier = nn.Linear(6, 2)


def net(*, dtype: torch.dtype = torch.float32) -> Net:
    generator = torch.Generator().manual_seed(0)
    model = Net()
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return model.to(dtype)


def trained(folder: Path, model: nn.Module, **options: object) -> dict[str, torch.Tensor]:
    """Save a base and a moved subspace of it; return the state of the merged model."""
    space = Subspace(model, **({"d": 12, "projection": "hadamard"} | options))
    generator = torch.Generator().manual_seed(1)
    for parameter in space.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    space.save(folder / "tuned")
    state = model.state_dict()
    save_file(
        {name: tensor.clone() for name, tensor in state.items() if name != "head.weight"}, folder / "base.safetensors"
    )
    return space.merged().state_dict()


def agrees(pairs: Pairs, merged: dict[str, torch.Tensor], *, precision: float = 1e-6) -> None:
    """Every delta is that of the merged model, in the base's dtype, to the order of a float32 sum."""
    for name in pairs.names:
        delta = pairs.load(name)
        stored, _, index = name.partition("[")
        expected = merged[stored][int(index[:-1])] if index else merged[stored]
        assert delta.tuned.dtype == delta.base.dtype == expected.dtype
        error = (delta.tuned.reshape(expected.shape).double() - expected.double()).abs().max()
        assert float(error) <= precision * float(expected.double().abs().max())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_merged_model(tmp_path, kind):
    merged = trained(tmp_path, net(), projection=kind)
    pairs = open_pairs(tmp_path / "base.safetensors", tmp_path / "tuned")
    experts = {f"experts[{i}]" for i in range(3)}
    assert set(pairs.names) == experts | {
        "conv.weight", "conv.bias", "norm.weight", "norm.bias", "embed.weight", "classifier.weight", "classifier.bias"
    }  # fmt: skip
    agrees(pairs, merged)
    delta = pairs.load("conv.weight")
    assert (delta.matrix, delta.shape) == ((4, 18), (4, 2, 3, 3))
    assert delta.made.startswith("theta0 + P z (")


def test_the_table_of_kinds_is_whole():
    random = {name for name in projections.KINDS if name not in ("selector", "layerwise", "basis", "decoder")}
    assert random | {"layerwise:hadamard"} == set(KINDS)


def test_a_learned_basis_gives_the_merged_model(tmp_path):
    model, columns = net(), tmp_path / "basis.safetensors"
    tensors = dict(model.named_parameters())
    D = sum(tensor.numel() for tensor in tensors.values())
    drawn = torch.randn(D, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    save_basis(columns, torch.linalg.qr(drawn).Q.float(), tensors, learned={})
    merged = trained(tmp_path, model, projection=f"basis:{columns}")
    agrees(open_pairs(tmp_path / "base.safetensors", tmp_path / "tuned"), merged)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_theta_is_rounded_to_the_dtype_of_the_base(tmp_path, dtype):
    merged = trained(tmp_path, net(dtype=dtype))
    precision = 2.0**-7 if dtype == torch.bfloat16 else 1e-14
    agrees(open_pairs(tmp_path / "base.safetensors", tmp_path / "tuned"), merged, precision=precision)


def test_trained_heads_and_what_stays(tmp_path):
    merged = trained(tmp_path, net(), include="c*", exclude="conv.bias", train="classifier.*", d=5)
    pairs = open_pairs(tmp_path / "base.safetensors", tmp_path / "tuned")
    assert set(pairs.names) == {"conv.weight", "classifier.weight", "classifier.bias"}
    assert pairs.load("classifier.weight").made == ""
    agrees(pairs, merged)
    (row,) = pairs.skipped
    assert row.reason == "8 tensors of the base are outside the subspace, unchanged"


def test_buffers_that_changed_are_compared(tmp_path):
    model = net()
    space = Subspace(model, d=3)
    save_file(
        {n: t.clone() for n, t in model.state_dict().items() if n != "head.weight"}, tmp_path / "base.safetensors"
    )
    space.model.norm.running_mean.add_(1)
    space.save(tmp_path / "tuned")
    pairs = open_pairs(tmp_path / "base.safetensors", tmp_path / "tuned")
    assert pairs.load("norm.running_mean").difference().tolist() == [1] * 4


def test_a_base_under_another_prefix(tmp_path):
    merged = trained(tmp_path, net(), train="classifier.*")
    base = {f"inner.{name}": t for name, t in net().state_dict().items() if not name.startswith(("classifier", "head"))}
    pairs = open_pairs(base, tmp_path / "tuned")
    agrees(pairs, {f"inner.{name}": tensor for name, tensor in merged.items()})
    assert {row.name for row in pairs.skipped} >= {"classifier.weight", "classifier.bias"}


def test_models_in_memory_are_bases(tmp_path):
    merged = trained(tmp_path, net())
    agrees(open_pairs(net(), tmp_path / "tuned"), merged)


# -- refused -----------------------------------------------------------------------------------------------


def test_another_base_is_refused_with_both_hashes(tmp_path):
    trained(tmp_path, net())
    other = copy.deepcopy(net())
    other.conv.bias.data[1] += 1e-3
    with pytest.raises(
        RequestError, match=r"must be that of .*, with hash [0-9a-f]{32}; received .* with [0-9a-f]{32}"
    ):
        open_pairs(other, tmp_path / "tuned")


def test_a_base_without_a_tensor_is_refused(tmp_path):
    trained(tmp_path, net())
    base = {name: tensor for name, tensor in net().state_dict().items() if not name.startswith("conv")}
    with pytest.raises(RequestError, match=r"without 'conv\.weight' and \d+ more"):
        open_pairs(base, tmp_path / "tuned")


def test_a_base_of_other_sizes_is_refused(tmp_path):
    trained(tmp_path, net())
    base = net().state_dict()
    base["conv.weight"] = torch.ones(2, 2, 3, 3)
    with pytest.raises(RequestError, match=r"must have D = \d+ numbers inside; received"):
        open_pairs(base, tmp_path / "tuned")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda record: record.pop("inside"), "must list its names, 'inside'; received .* save it again"),
        (lambda record: record.update(hashed=[3]), "must list its names, 'hashed'"),
        (lambda record: record["projection"].update(kind="no"), "unknown projection 'no'"),
        (lambda record: record["projection"].update(D="3"), "a spec of 'hadamard' must hold its fields"),
        (lambda record: record.update(tensors="none"), "must stand beside its tensors"),
    ],
)
def test_a_damaged_save_gives_one_line(tmp_path, change, fault):
    trained(tmp_path, net())
    path = tmp_path / "tuned" / "subspace.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises(RequestError, match=fault) as caught:
        open_pairs(net(), tmp_path / "tuned")
    assert "\n" not in str(caught.value)


def test_a_save_alone_is_not_enough(tmp_path):
    trained(tmp_path, net())
    with pytest.raises(RequestError, match="needs its base"):
        open_pairs(None, tmp_path / "tuned")
    with pytest.raises(RequestError, match="the base must be a whole model"):
        open_pairs(tmp_path / "tuned", tmp_path / "tuned")
