"""Faults of other implementations of random projections, each held off for every kind here.

Parameters are laid out as in a small network: tensors of very different sizes, one of them a single number.
"""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import torch
from cases import CASES, NAMES
from laws import EXACT, normal, same

from idim.projections import create

SIZES = [3, 700, 64, 1, 200, 32]
D = sum(SIZES)

every_case = pytest.mark.parametrize("case", CASES, ids=NAMES)


def tensors():
    edges = torch.tensor([0, *SIZES]).cumsum(0).tolist()
    return list(itertools.pairwise(edges))


@every_case
def test_wrong_gradient_scale(case):
    """A forward pass and a backward pass normalised apart scale each tensor's gradient by 1 / its padded length."""
    P = case.make(D, 20)
    target = normal(D, seed=3)
    z = normal(20).requires_grad_()
    loss = 0.5 * (P.to_dense() @ z - target).square().sum()
    loss.backward()
    residual = P.matvec(z) - target
    per_tensor = [P.rows(a, b).rmatvec(residual[a:b]) for a, b in tensors()]
    same(sum(per_tensor), z.grad)
    for (a, b), pulled in zip(tensors(), per_tensor, strict=True):
        same(pulled, P.to_dense()[a:b].T @ residual[a:b], EXACT, scale=float(z.grad.norm()))


@every_case
def test_a_small_tensor_does_not_see_a_cropped_z(case):
    """A tensor with fewer numbers than d padded to a power of two below d saw only the first coordinates."""
    seen = torch.zeros(50, dtype=torch.bool)
    for seed in range(1 if case.spreads else 800):
        seen |= case.make(D, 50, seed).rows(0, 16).rmatvec(normal(16)) != 0
    assert bool(seen.all())


@every_case
def test_columns_have_unit_norm_over_all_tensors_and_not_in_each(case):
    """Columns of norm 1 in every tensor move a bias of one number as far as a matrix of 700."""
    d, seeds = 20, 300
    squares = torch.zeros(seeds, len(SIZES), dtype=torch.float64)
    for seed in range(seeds):
        P = case.make(D, d, seed)
        A = torch.stack([P.matvec(e) for e in torch.eye(d, dtype=torch.float64)], dim=1)
        squares[seed] = torch.stack([A[a:b].square().sum() for a, b in tensors()])
    expected = torch.tensor(SIZES, dtype=torch.float64) * d / D
    error = (squares.mean(0) - expected).abs()
    assert bool((error <= 5.5 * squares.std(0) / seeds**0.5 + EXACT).all())


@every_case
def test_the_map_does_not_depend_on_how_it_is_cut_or_stored(case):
    """A generator drawn from in the order of the computation gives another P for other chunks or another dtype."""
    P = case.make(70_000, 30)
    z = normal(30)
    whole = P.matvec(z)
    for start, stop in ((0, 1), (65_530, 65_545), (12_345, 12_400), (69_999, 70_000)):
        same(P.rows(start, stop).matvec(z), whole[start:stop], scale=float(z.norm()))
    same(P.matvec(z.float()), whole, 1e-5)


@every_case
def test_the_seed_is_not_ignored(case):
    maps = [case.make(D, 20, seed).matvec(normal(20)) for seed in (0, 1, -1, 2**40)]
    for i, x in enumerate(maps):
        assert all(not torch.allclose(x, y) for y in maps[i + 1 :])


@every_case
def test_the_global_generators_are_not_touched(case):
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    P = case.make(D, 20)
    P.rmatvec(P.matvec(normal(20)))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]  # noqa: NPY002


def test_scales_of_layers_do_not_need_more_coordinates_than_layers_and_one():
    """With d above the number of tensors required, 207 coordinates could not be had on a model of 390 tensors."""
    P = create("layerwise", D=24 * 50, d=207, seed=0, layers=(50,) * 24)
    assert P.projection.d == 207 - 24
