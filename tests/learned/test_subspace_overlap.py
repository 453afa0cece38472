"""Overlaps with a subspace, what chance gives, and a training that is known to stay in one."""

from __future__ import annotations

import math

import pytest
import torch
from curvature_cases import CASES, normal
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from idim.errors import RequestError
from idim.learned.curvature import GaussNewton, Hessian
from idim.learned.moments import Moment, moment
from idim.learned.objective import Objective
from idim.learned.overlap import chance, overlap


@settings(max_examples=20, deadline=None)
@given(D=st.integers(2, 30), k=st.integers(1, 30), seed=st.integers(0, 99), scale=st.floats(1e-6, 1e6))
def test_the_overlap_is_the_share_of_the_norm(D: int, k: int, seed: int, scale: float) -> None:
    k = min(k, D)
    basis, g = torch.linalg.qr(normal(D, D, seed=seed))[0], normal(D, seed=seed + 100)
    inside = overlap(basis[:, :k], g)
    assert inside == pytest.approx(float((basis[:, :k] @ (basis[:, :k].T @ g)).square().sum() / g.square().sum()))
    assert overlap(basis[:, :k], scale * g) == pytest.approx(inside, rel=1e-12)
    assert inside + overlap(basis[:, k:], g) == pytest.approx(1.0, rel=1e-12)
    assert overlap(basis[:, :k], basis[:, :k]) == pytest.approx(1.0, rel=1e-12)
    assert overlap(basis[:, :k], basis[:, k:]) == pytest.approx(0.0, abs=1e-12) or k == D


def test_long_vectors_are_read_in_parts() -> None:
    basis = torch.linalg.qr(normal(2**18 + 5, 2))[0]
    given_ = basis[:, 0] + basis[:, 1] + 0.5 * basis.sum(1).roll(1)
    exact = float((basis.T @ given_).square().sum() / given_.square().sum())
    assert overlap(basis, given_) == pytest.approx(exact, rel=1e-12)
    assert overlap(basis.float(), given_.float()) == pytest.approx(exact, rel=1e-6)


def test_chance_has_the_mean_and_spread_of_random_directions() -> None:
    D, k, n = 12, 3, 40000
    drawn = normal(n, D)
    shares = drawn[:, :k].square().sum(1) / drawn.square().sum(1)
    expected = chance(k, D)
    assert float(shares.mean()) == pytest.approx(expected.mean, abs=5 * expected.sd / math.sqrt(n))
    assert float(shares.std()) == pytest.approx(expected.sd, rel=0.03)  # five times its own standard error
    assert (chance(12, 12).mean, chance(12, 12).sd) == (1.0, 0.0)
    assert (chance(0, 12).mean, chance(0, 12).sd) == (0.0, 0.0)


def test_bad_input_is_refused_and_nothing_has_no_overlap() -> None:
    assert math.isnan(overlap(torch.eye(3), torch.zeros(3)))
    with pytest.raises(RequestError, match=r"received \[3, 3\] and \[4\]"):
        overlap(torch.eye(3), torch.zeros(4))
    with pytest.raises(RequestError, match=r"received \[3\] and \[3\]"):
        overlap(torch.zeros(3), torch.zeros(3))
    for k, D in ((-1, 4), (5, 4), (0, 0)):
        with pytest.raises(RequestError, match=f"received k = {k}, D = {D}"):
            chance(k, D)


@pytest.mark.parametrize("kind", [Hessian, GaussNewton])
def test_descent_on_a_quadratic_stays_in_the_space_of_its_curvature(kind: type[Hessian]) -> None:
    rank, model = 4, nn.Linear(300, 1, bias=False)
    model.weight.data = normal(1, 300, seed=9).float()
    rows = normal(30, rank, seed=1) @ torch.linalg.qr(normal(300, rank, seed=2))[0].T
    targets = normal(30, 1, seed=3)

    def look(step: int) -> Moment:
        return moment(step, kind(Objective(model, F.mse_loss, rows, targets, double=True)), k=rank)

    first = look(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    for _ in range(5):
        optimizer.zero_grad()
        F.mse_loss(model(rows.float()), targets.float()).backward()
        optimizer.step()
    last = look(5)
    assert last.loss < 0.9 * first.loss
    for share in (first.gradient, last.gradient, first.moved(last), first.kept(last)):
        assert share == pytest.approx(1.0, abs=1e-8)
    assert first.chance.mean == rank / 300


def test_a_moment_holds_what_the_objective_has() -> None:
    case = CASES[0]
    objective = case.objective()
    here = moment(7, Hessian(objective), k=3)
    assert here.step == 7
    assert here.loss == objective.value()
    assert torch.equal(here.theta, objective.theta())
    assert here.gradient == overlap(here.pairs.vectors, objective.gradient())
    assert here.gradient < 1.0
    assert math.isnan(here.moved(here))
    assert here.kept(here) == pytest.approx(1.0)
