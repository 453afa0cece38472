"""A decoder: its own laws, for it is affine or curved; the models it fits, and what is refused."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import normal, same
from safetensors.torch import load_file, save_file
from torch import nn

import idim
from idim.errors import RequestError
from idim.parameters import choose
from idim.projections import create, load, most_d, resolve
from idim.projections.decoder_file import FORM, Layer, open_decoder, save_decoder

D, d, H = 26, 4, 7


def net(order=("first", "second")) -> nn.Module:
    modules = {"first": nn.Linear(3, 4), "second": nn.Linear(4, 2)}
    whole = nn.Sequential()
    for name in order:
        whole.add_module(name, modules[name])
    draw = torch.Generator().manual_seed(0)
    for name in modules:
        for parameter in modules[name].parameters():
            nn.init.normal_(parameter, generator=draw)
    return whole


def layers(kind):
    sizes = (d, D) if kind == "linear" else (d, H, D)
    pairs = itertools.pairwise(sizes)
    return [
        Layer(weight=normal(b, seed=10 * b + a, dtype=torch.float32).unsqueeze(1) * normal(a, dtype=torch.float32),
              bias=normal(b, seed=3, dtype=torch.float32))
        for a, b in pairs
    ]  # fmt: skip


@pytest.fixture(params=["linear", "mlp"])
def path(request, tmp_path):
    file = tmp_path / f"{request.param}.safetensors"
    save_decoder(file, layers(request.param), dict(net().named_parameters()), learned={"how": "test"})
    return file


def make(path, **options):
    return create(f"decoder:{path}", **{"D": D, "d": d, "seed": 0} | options)


def definition(path, z):
    *inner, last = open_decoder(path).layers
    for layer in inner:
        z = torch.tanh(layer.weight.double() @ z + layer.bias.double())
    return last.weight.double() @ z + last.bias.double()


def test_values_and_gradient_are_those_of_the_definition(path):
    P, z, g = make(path), normal(d, seed=2).requires_grad_(), normal(D, seed=3)
    expected = definition(path, z)
    (expected @ g).backward()
    same(P.matvec(z), expected.detach())
    same(P.vjp(z, g), z.grad)
    same(P.matvec(P.initial(torch.float64)), definition(path, torch.zeros(d, dtype=torch.float64)))


def test_the_gradient_is_that_of_finite_differences(path):
    P, z, g, h = make(path), normal(d, seed=2), normal(D, seed=3), 1e-5
    slopes = [(P.matvec(z + h * e) - P.matvec(z - h * e)) @ g / (2 * h) for e in torch.eye(d, dtype=torch.float64)]
    same(P.vjp(z, g), torch.stack(slopes), 1e-7)


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(cuts=st.lists(st.integers(1, D - 1), max_size=5))
def test_rows_concatenate_and_their_gradients_add(tmp_path_factory, cuts):
    path = tmp_path_factory.getbasetemp() / "rows.safetensors"
    if not path.exists():
        save_decoder(path, layers("mlp"), dict(net().named_parameters()), learned={})
    P, z, g, base = make(path), normal(d, seed=2), normal(D, seed=3), normal(D, seed=4)
    edges = sorted({0, D, *cuts})
    pieces = list(itertools.pairwise(edges))
    same(torch.cat([P.rows(a, b).matvec(z, base=base[a:b]) for a, b in pieces]), base + P.matvec(z))
    same(sum(P.vjp(z, g[a:b], a) for a, b in pieces), P.vjp(z, g))


def test_low_precision_is_computed_in_float32(path):
    P, z, g = make(path), normal(d, seed=2).float(), normal(D, seed=3, dtype=torch.bfloat16)
    assert P.vjp(z, g).dtype == torch.float32
    same(P.vjp(z, g), P.vjp(z.double(), g.double()), 1e-5)
    base = normal(D, seed=4, dtype=torch.bfloat16)
    assert P.matvec(z, base=base).dtype == torch.bfloat16


def test_a_subspace_starts_at_the_mean_code_and_trains(path):
    model = net()
    space = idim.Subspace(model, projection=f"decoder:{path}", d=d)
    start = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    moved = torch.cat([t.reshape(-1) for t in space.theta().values()])
    same(moved.double(), start.double() + definition(path, torch.zeros(d, dtype=torch.float64)), 1e-5)
    space(torch.ones(5, 3)).square().mean().backward()
    z = torch.zeros(d, requires_grad=True)
    changes = torch.split(definition(path, z.double()).float(), [p.numel() for p in model.parameters()])
    named = {
        name: p.detach() + change.view(p.shape)
        for (name, p), change in zip(model.named_parameters(), changes, strict=True)
    }
    torch.func.functional_call(model, named, (torch.ones(5, 3),)).square().mean().backward()
    same(space.z.grad, z.grad, 1e-4)


def test_rows_follow_the_order_of_the_model(path):
    turned = net(("second", "first"))
    P = make(path).fitted(choose(turned).inside)
    assert P.order == (2, 3, 0, 1)
    plain = torch.split(make(path).matvec(normal(d)), [12, 4, 8, 2])
    same(P.matvec(normal(d)), torch.cat([plain[i] for i in P.order]))
    assert load(json.loads(json.dumps(P.spec))) == P


def test_it_is_known_by_its_hash(path):
    pinned = resolve(f"decoder:{path}")
    assert pinned == f"decoder:{path}@{make(path).digest}"
    assert most_d(pinned, D=D) == d
    save_decoder(path, layers("linear"), dict(net().named_parameters()), learned={"how": "other"})
    with pytest.raises(RequestError, match=r"the decoder .* must have the hash \w{16}; received \w{16}"):
        create(pinned, D=D, d=d, seed=0)


def test_what_does_not_fit_is_refused(path):
    for options, message in (
        ({"d": 3}, "d must be that of the decoder .*, 4: a code has no first coordinates; received d = 3"),
        ({"D": 27}, "D = 27; received the decoder .* of 26 rows"),
    ):
        with pytest.raises(RequestError, match=message):
            make(path, **options)
    with pytest.raises(RequestError, match=r"must be over the parameters of the model .* 8 differ, such as '0\.bias'"):
        idim.Subspace(nn.Sequential(*net().children()), projection=f"decoder:{path}", d=d)
    moved = net()
    moved.first.bias.data += 1
    with pytest.raises(RequestError, match=r"must be at the parameters that the decoder .* starts from"):
        idim.Subspace(moved, projection=f"decoder:{path}", d=d)
    with pytest.raises(RequestError, match="'decoder' is not linear in its coordinates"):
        make(path).rmatvec(normal(D))
    with pytest.raises(RequestError, match=r"projection 'decoder:FILE' needs a decoder; received 'none': no such file"):
        create("decoder:none", D=D, d=d, seed=0)
    with pytest.raises(RequestError, match="inner kind of 'layerwise' must be linear"):
        create(f"layerwise:decoder:{path}", D=D, d=d, seed=0, layers=(D,))


def test_broken_files_are_refused(path, tmp_path):
    whole = load_file(path)
    other = tmp_path / "other.safetensors"
    with pytest.raises(RequestError, match="a decoder must be a whole safetensors file"):
        other.write_bytes(path.read_bytes()[:-3])
        open_decoder(other)
    save_file(whole, other)
    with pytest.raises(RequestError, match=f"a decoder has metadata '{FORM.key}'"):
        open_decoder(other)
    save_file(whole, other, {FORM.key: '{"format": 9}'})
    with pytest.raises(RequestError, match=r"reads a decoder of format 1; received .* of format 9"):
        open_decoder(other)
    record = {"format": 1, "names": ["a"], "shapes": [[D]], "base": "", "learned": {}}
    save_file({"0.weight": torch.zeros(D, d)}, other, {FORM.key: json.dumps(record)})
    with pytest.raises(RequestError, match=r"must hold i.weight and i.bias of its layers, float32; received \['0.weig"):
        open_decoder(other)
    save_file(whole, other, {FORM.key: json.dumps(record | {"shapes": [[D + 1]]})})
    with pytest.raises(RequestError, match="lead from d coordinates to D = 27 rows"):
        open_decoder(other)
    with pytest.raises(RequestError, match="a decoder must be finite"):
        save_decoder(other, [Layer(weight=torch.full((D, d), torch.inf), bias=torch.zeros(D))],
                     dict(net().named_parameters()), learned={})  # fmt: skip
