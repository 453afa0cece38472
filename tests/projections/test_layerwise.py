"""One learned scale per layer: its own laws, for it is not linear in its coordinates."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import normal, same

from idim.errors import RequestError
from idim.projections import Layerwise, create, load

INNER = ["hadamard", "fastfood", "dense", "sparse", "uniform", "kronecker", "selector", "dense:gaussian"]
LAYERS = (3, 100, 1, 40, 16)
D, d = sum(LAYERS), 12


def make(inner="hadamard", **options):
    return create(f"layerwise:{inner}", D=D, d=d, seed=1, layers=LAYERS, **options)


def start_and_step(P):
    """Return coordinates away from the start, where every derivative counts."""
    return P.initial(torch.float64) + 0.5 * normal(P.d, seed=2)


def dense_map(P, w):
    """The definition, with autograd: scales repeated over their rows times the dense inner map."""
    m = len(LAYERS)
    return w[-m:].repeat_interleave(torch.tensor(LAYERS)) * (P.projection.to_dense() @ w[:-m])


@pytest.mark.parametrize("inner", INNER)
def test_values_and_gradient_are_those_of_the_definition(inner):
    P = make(inner)
    w, g = start_and_step(P).requires_grad_(), normal(D, seed=3)
    expected = dense_map(P, w)
    (expected @ g).backward()
    same(P.matvec(w), expected.detach())
    same(P.vjp(w, g), w.grad)


def test_the_gradient_is_that_of_finite_differences():
    P = make()
    w, g, h = start_and_step(P), normal(D, seed=3), 1e-4
    # the map is bilinear in z and the scales: central differences have no error but round-off
    slopes = [(P.matvec(w + h * e) - P.matvec(w - h * e)) @ g / (2 * h) for e in torch.eye(d, dtype=torch.float64)]
    same(P.vjp(w, g), torch.stack(slopes), 1e-9)


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(cuts=st.lists(st.integers(1, D - 1), max_size=6))
def test_rows_concatenate_and_their_gradients_add(cuts):
    P = make()
    w, g, base = start_and_step(P), normal(D, seed=3), normal(D, seed=4)
    edges = sorted({0, D, *cuts})
    pieces = list(itertools.pairwise(edges))
    same(torch.cat([P.rows(a, b).matvec(w) for a, b in pieces]), P.matvec(w))
    same(torch.cat([P.rows(a, b).matvec(w, base=base[a:b]) for a, b in pieces]), base + P.matvec(w))
    same(sum(P.vjp(w, g[a:b], a) for a, b in pieces), P.vjp(w, g))


def test_the_start_changes_nothing_and_its_gradient_is_that_of_the_shared_coordinates():
    P = make()
    start, g = P.initial(torch.float64), normal(D, seed=3)
    assert start.tolist() == [0.0] * 7 + [1.0] * 5
    assert not P.matvec(start).any()
    same(P.vjp(start, g), torch.cat([P.projection.rmatvec(g), torch.zeros(5)]))


def test_a_single_layer_spends_no_scale():
    P, inner = create("layerwise:dense", D=50, d=4, seed=1, layers=(50,)), create("dense", D=50, d=4, seed=1)
    w, g = normal(4), normal(50)
    assert torch.equal(P.initial(), torch.zeros(4))
    assert torch.equal(P.matvec(w), inner.matvec(w))
    assert torch.equal(P.vjp(w, g), inner.rmatvec(g))


def test_low_precision_gradients_are_summed_in_float32():
    P = make()
    w, g = start_and_step(P).float(), normal(D, seed=3, dtype=torch.bfloat16)
    pulled = P.vjp(w, g)
    assert pulled.dtype == torch.float32
    same(pulled, P.vjp(w.double(), g.double()), 1e-5)


def test_the_spec_is_all():
    P = make("dense:gaussian")
    assert load(json.loads(json.dumps(P.spec))) == P
    with pytest.raises(RequestError, match="received a spec of version 0"):
        load({**P.spec, "version": 0})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"d": 5}, "d must be at least 6, one scale for each of 5 layers and one coordinate; received d = 5"),
        ({"layers": ()}, r"sum to D = 160; received \(\), sum 0"),
        ({"layers": (100, 61)}, r"sum to D = 160; received \(100, 61\), sum 161"),
        ({"layers": (160, 0)}, r"layers must be positive"),
        ({"inner": "layerwise"}, "the inner kind of 'layerwise' must be linear; received 'layerwise'"),
    ],
)
def test_layers_that_do_not_fit_are_refused(options, message):
    with pytest.raises(RequestError, match=message):
        Layerwise(**{"D": D, "d": 20, "layers": LAYERS, **options})


@pytest.mark.parametrize("call", [lambda P: P.rmatvec(normal(D)), lambda P: P.to_dense(), lambda P: P.to_scipy()])
def test_it_has_no_transpose(call):
    with pytest.raises(RequestError, match="'layerwise' is not linear in its coordinates"):
        call(make())


def test_wrong_coordinates_are_refused():
    with pytest.raises(RequestError, match=r"z must have shape \[12\]; received \[11\]"):
        make().vjp(normal(11), normal(D))
