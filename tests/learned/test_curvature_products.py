"""Products with the Hessian and the Gauss–Newton matrix: beside whole matrices, finite differences and their laws."""

from __future__ import annotations

import copy

import pytest
import torch
from curvature_cases import CASES, NAMES, ROWS, Case, dense_gauss_newton, dense_hessian, normal
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from idim.errors import RequestError
from idim.learned.curvature import Curvature, GaussNewton, Hessian
from idim.learned.objective import Objective

KINDS = pytest.mark.parametrize(("kind", "dense"), [(Hessian, dense_hessian), (GaussNewton, dense_gauss_newton)])
EACH = pytest.mark.parametrize("case", CASES, ids=NAMES)
EXACT = 1e-12  # of sums of some hundred terms of order one in float64
FEW = settings(max_examples=12, deadline=None)


def near(found: torch.Tensor, wanted: torch.Tensor, tolerance: float = EXACT) -> None:
    assert float((found.double() - wanted).norm()) <= tolerance * float(wanted.norm())


@EACH
@KINDS
def test_products_are_those_of_the_whole_matrix(case: Case, kind: type[Curvature], dense: object) -> None:
    matrix = dense(case)  # type: ignore[operator]
    near(kind(case.objective()).to_dense(), matrix)
    near(kind(case.objective(double=False)).to_dense(), matrix, 3e-6)


@EACH
def test_value_and_gradient_are_those_of_all_rows_at_once(case: Case) -> None:
    model, (inputs, targets) = case.model().eval(), case.rows()
    value = case.loss(model(inputs), targets)
    grads = torch.autograd.grad(value, list(model.parameters()))
    assert case.objective().value() == pytest.approx(value.item(), rel=1e-13)
    near(case.objective().gradient(), torch.cat([grad.flatten() for grad in grads]))


@EACH
def test_a_hessian_product_is_the_slope_of_the_gradient(case: Case) -> None:
    """Central differences: the error is h² times a third derivative of order one, plus round-off / h."""
    h, v = 1e-5, normal(case.objective().D, seed=3)
    v /= v.norm()
    ends = []
    for sign in (1, -1):
        model = case.model()
        step = iter(v.split([p.numel() for p in model.parameters()]))
        for parameter in model.parameters():
            parameter.data += sign * h * next(step).view_as(parameter)
        ends.append(Objective(model, case.loss, *case.rows(), double=True).gradient())
    near(Hessian(case.objective()).matvec(v), (ends[0] - ends[1]) / (2 * h), 1e-7)


@pytest.mark.parametrize("kind", [Hessian, GaussNewton])
@FEW
@given(case=st.sampled_from(CASES), batch=st.integers(1, ROWS + 3), seed=st.integers(0, 99), c=st.floats(-9, 9))
def test_products_are_linear_and_symmetric(kind: type[Curvature], case: Case, batch: int, seed: int, c: float) -> None:
    matrix = kind(case.objective(batch=batch))
    u, v = normal(matrix.D, seed=seed), normal(matrix.D, seed=seed + 100)
    left, right = matrix.matvec(u), matrix.matvec(v)
    scale = float(left.norm() + abs(c) * right.norm()) + 1
    assert float((matrix.matvec(u + c * v) - left - c * right).norm()) <= EXACT * scale
    assert abs(float(u @ right - v @ left)) <= EXACT * scale * float(u.norm() + v.norm())


@pytest.mark.parametrize("kind", [Hessian, GaussNewton])
@FEW
@given(cut=st.integers(1, ROWS - 1), factor=st.floats(0.1, 10))
def test_matrices_add_up_over_rows_and_scale_with_the_loss(kind: type[Curvature], cut: int, factor: float) -> None:
    case, v = CASES[0], normal(CASES[0].objective().D, seed=8)
    model, (inputs, targets) = case.model(), case.rows()
    parts = [
        kind(Objective(model, case.loss, inputs[rows], targets[rows], double=True)).matvec(v) * share
        for rows, share in ((slice(cut), cut / ROWS), (slice(cut, None), 1 - cut / ROWS))
    ]
    near(parts[0] + parts[1], kind(case.objective()).matvec(v))
    scaled = Objective(model, lambda y, t: factor * case.loss(y, t), inputs, targets, double=True)
    near(kind(scaled).matvec(v), factor * kind(case.objective()).matvec(v))


@pytest.mark.parametrize("kind", [Hessian, GaussNewton])
def test_a_row_that_counts_twice_is_the_row_twice(kind: type[Curvature]) -> None:
    case = CASES[1]
    inputs, targets = case.rows()
    weights = torch.ones(ROWS)
    weights[2], weights[5] = 2.0, 0.0
    kept = torch.tensor([*range(5), *range(6, ROWS), 2])
    weighted = Objective(case.model(), case.loss, inputs, targets, weights=weights, batch=1, double=True)
    repeated = Objective(case.model(), case.loss, inputs[kept], targets[kept], double=True)
    near(kind(weighted).to_dense(), kind(repeated).to_dense())
    assert weighted.value() == pytest.approx(repeated.value(), rel=1e-13)


def test_both_matrices_are_one_where_outputs_are_linear_and_gauss_newton_is_never_negative() -> None:
    case = Case(name="linear", make=lambda: nn.Linear(4, 3), loss=F.cross_entropy, targets=CASES[0].targets)
    near(GaussNewton(case.objective()).to_dense(), Hessian(case.objective()).to_dense())
    hidden = CASES[0]
    assert float(torch.linalg.eigvalsh(GaussNewton(hidden.objective()).to_dense())[0]) > -1e-15
    assert float(torch.linalg.eigvalsh(Hessian(hidden.objective()).to_dense())[0]) < -1e-3


def test_chosen_parameters_give_a_block_of_the_whole_matrix() -> None:
    case = CASES[0]
    weight = case.objective(include="3.*", exclude="*.bias")
    assert weight.layout.names == ("3.weight",)
    start = case.objective().layout.offsets[2]
    block = slice(start, start + weight.D)
    near(Hessian(weight).to_dense(), dense_hessian(case)[block, block])


def test_the_model_stays_as_it_is_and_the_objective_where_it_was() -> None:
    case = CASES[4]
    model, before = case.model(), case.model()
    objective = Objective(model, case.loss, *case.rows(), double=True)
    there = Hessian(objective).matvec(torch.ones(objective.D))
    assert model.training
    same = zip(model.state_dict().values(), before.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    for parameter in model.parameters():
        parameter.data.zero_()
    assert torch.equal(Hessian(objective).matvec(torch.ones(objective.D)), there)
    with torch.no_grad():
        assert torch.equal(Hessian(objective).matvec(torch.ones(objective.D)), there)
    half = Objective(copy.deepcopy(before).bfloat16(), case.loss, *case.rows())
    assert half.layout.dtypes[0] == torch.bfloat16
    assert half.gradient().dtype == torch.float32


def test_parameters_that_a_loss_does_not_reach_have_no_curvature() -> None:
    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(4, 3), nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)

    rows = CASES[0].rows()
    for kind in (Hessian, GaussNewton):
        dense = kind(Objective(Part(), F.cross_entropy, *rows, double=True)).to_dense()
        assert not dense[15:].any()
        assert not dense[:, 15:].any()
        assert dense[:15, :15].any()


def test_a_loss_without_curvature_has_the_hessian_zero_and_no_gauss_newton_matrix() -> None:
    objective = Objective(nn.Linear(4, 1), lambda y, t: (y - t).mean(), normal(6, 4), normal(6, 1))
    assert not Hessian(objective).matvec(torch.ones(5)).any()
    with pytest.raises(RequestError, match="curved in the outputs; received one that is linear"):
        GaussNewton(objective).matvec(torch.ones(5))


def test_attention_is_differentiated_twice() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Linear(3, 9)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v = self.mix(x.view(-1, 1, 2, 3)).chunk(3, dim=-1)
            return F.scaled_dot_product_attention(q, k, v).flatten(1)[:, :3]

    case = Case(name="attention", make=Attention, loss=F.cross_entropy, targets=CASES[0].targets, inputs=6)
    model, (inputs, targets) = case.model(), case.rows()

    def by_hand(weight: torch.Tensor) -> torch.Tensor:
        q, k, v = F.linear(inputs.view(-1, 1, 2, 3), weight.view(9, 3), model.mix.bias.detach()).chunk(3, dim=-1)
        weights = (q @ k.transpose(-1, -2) / 3**0.5).softmax(-1)
        return F.cross_entropy((weights @ v).flatten(1)[:, :3], targets)

    found = Hessian(Objective(model, case.loss, inputs, targets, include="mix.weight", double=True)).to_dense()
    near(found, torch.func.hessian(by_hand)(model.mix.weight.detach().flatten()), 1e-11)


def refused(match: str, make: object) -> None:
    with pytest.raises(RequestError, match=match) as caught:
        make()  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_bad_input_is_refused_in_a_line() -> None:
    case = CASES[0]
    model, (x, y) = case.model(), case.rows()
    refused("same number of rows, at least 1; received 23 and 5", lambda: Objective(model, case.loss, x, y[:5]))
    refused("at least 1; received 0 and 0", lambda: Objective(model, case.loss, x[:0], y[:0]))
    refused("at least 1 row; received 0", lambda: case.objective(batch=0))
    refused(r"weights must have shape \[23\]; received \[2\]", lambda: case.objective(weights=torch.ones(2)))
    refused("not all 0; received 0 to 0", lambda: case.objective(weights=torch.zeros(23)))
    refused("at least 0 and not all 0; received -1", lambda: case.objective(weights=-torch.ones(23)))
    refused("include pattern 'nothing'", lambda: case.objective(include="nothing"))
    refused(r"shape \[43\]; received \[7\]", lambda: Hessian(case.objective()).matvec(torch.ones(7)))
    refused("one finite number; received inf", lambda: Objective(model, lambda a, b: a.exp().sum() / 0, x, y).value())
    refused(r"number; received shape \[23\]", lambda: Objective(model, lambda a, b: a[:, 0], x, y).value())

    class Pair(nn.Linear):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:  # type: ignore[override]
            return (super().forward(x),)

    refused("one tensor; received tuple", lambda: Objective(Pair(4, 3), case.loss, x, y).gradient())
