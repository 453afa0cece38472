"""Eigenpairs of networks beside dense eigensolvers and curvlinops, and models whose top space is known."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from curvature_cases import CASES, NAMES, Case, classes, dense_gauss_newton, dense_hessian, generator, normal
from torch import Tensor, nn
from torch.nn import functional as F

from idim.learned.curvature import Curvature, GaussNewton, Hessian
from idim.learned.lanczos import EigenPairs, lanczos
from idim.learned.objective import Objective
from idim.spectral.comparison.angles import principal_angles

BAR = 1e-4  # of values relative, of vectors in radians
KINDS = pytest.mark.parametrize(
    ("kind", "dense"), [(Hessian, dense_hessian), (GaussNewton, dense_gauss_newton)], ids=["hessian", "gauss-newton"]
)


def apart(found: EigenPairs, matrix: Tensor) -> tuple[float, list[float]]:
    """Return the largest relative error of the values, and the angle of each pair to its dense eigenvector."""
    values, vectors = torch.linalg.eigh(matrix)
    order = values.abs().argsort(descending=True)[: len(found.values)]
    error = ((found.values - values[order]) / values[order]).abs().max()
    pairs = zip(found.vectors.T, vectors.T[order], strict=True)
    angles = [float(principal_angles(one[:, None], other[:, None])) for one, other in pairs]
    return float(error), angles


def space_of(matrix: Tensor, k: int) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors[:, values.abs().argsort(descending=True)[:k]]


@pytest.mark.parametrize("case", CASES, ids=NAMES)
@KINDS
def test_pairs_are_those_of_the_dense_solver(case: Case, kind: type[Curvature], dense: Any) -> None:
    matrix = dense(case)
    found = lanczos(kind(case.objective()), k=5, tolerance=1e-7)
    error, angles = apart(found, matrix)
    assert found.converged
    assert error <= BAR
    assert max(angles) <= BAR
    assert float(principal_angles(found.vectors, space_of(matrix, 5)).max()) <= max(2 * found.angle, 1e-9)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
@KINDS
def test_float32_pairs_meet_the_bar_too(case: Case, kind: type[Curvature], dense: Any) -> None:
    """The products err by some 1e-7 of the largest value, so vectors by that over the gap to the nearest value."""
    found = lanczos(kind(case.objective(double=False)), k=3, tolerance=1e-6)
    error, angles = apart(found, dense(case))
    assert error <= BAR
    assert max(angles) <= BAR


def by_curvlinops(case: Case, kind: type[Curvature], k: int) -> tuple[Tensor, Tensor]:
    """Return the k pairs of largest magnitude that scipy finds with the products of curvlinops."""
    curvlinops = pytest.importorskip("curvlinops")
    from scipy.sparse.linalg import eigsh

    model = case.model().eval()
    operator = {Hessian: curvlinops.HessianLinearOperator, GaussNewton: curvlinops.GGNLinearOperator}[kind]
    loss = {"cross-entropy": nn.CrossEntropyLoss, "squares": nn.MSELoss}[case.name.split(", ")[1]]()
    products = operator(model, loss, list(model.parameters()), [case.rows()], check_deterministic=False).to_scipy()
    values, vectors = eigsh(products, k=k, which="LM", tol=1e-10)
    order = abs(values).argsort()[::-1].copy()
    return torch.from_numpy(values[order]), torch.from_numpy(vectors[:, order].copy())


@pytest.mark.parametrize("case", [CASES[0], CASES[1], CASES[4], CASES[5]], ids=lambda case: case.name)
@pytest.mark.parametrize("kind", [Hessian, GaussNewton], ids=["hessian", "gauss-newton"])
def test_pairs_are_those_of_curvlinops(case: Case, kind: type[Curvature]) -> None:
    values, vectors = by_curvlinops(case, kind, 5)
    found = lanczos(kind(case.objective()), k=5, tolerance=1e-7)
    assert float(((found.values - values) / values).abs().max()) <= BAR
    assert float(principal_angles(found.vectors, vectors).max()) <= BAR
    assert float((found.vectors * vectors).sum(0).abs().min()) >= math.cos(BAR)


class Quadratic(nn.Module):
    """Answers A theta: its squares have the Hessian 2 AᵀA / rows, whatever theta is."""

    def __init__(self, D: int) -> None:
        super().__init__()
        self.theta = nn.Parameter(normal(D, seed=11))

    def forward(self, rows: Tensor) -> Tensor:
        return rows @ self.theta


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("kind", [Hessian, GaussNewton], ids=["hessian", "gauss-newton"])
def test_the_space_of_a_quadratic_is_found(kind: type[Curvature], double: bool) -> None:
    D, rank = 2000, 6
    space = torch.linalg.qr(normal(D, rank, seed=1))[0]
    rows = normal(40, rank, seed=2) * torch.tensor([5.0, 4, 3, 2, 1.5, 1]) @ space.T
    objective = Objective(Quadratic(D), F.mse_loss, rows, normal(40, seed=3), batch=7, double=double)
    found = lanczos(kind(objective), k=rank)
    assert float(principal_angles(found.vectors, space).max()) <= (1e-9 if double else 1e-5)
    exact = 2 * torch.linalg.svdvals(rows).square()[:rank] / 40
    assert float(((found.values - exact) / exact).abs().max()) <= (1e-12 if double else 1e-5)
    more = lanczos(kind(objective), k=rank + 4)
    assert float(more.values[rank:].abs().max()) <= (1e-12 if double else 1e-4)  # beyond the rank there is nothing


def test_every_output_of_a_linear_model_has_the_same_eigenvalues() -> None:
    """Squares of C linear outputs: the Hessian is XᵀX ⊗ I, so each of its eigenvalues comes C times."""
    inputs, C = normal(30, 6, seed=1), 4
    model = nn.Linear(6, C, bias=False)
    found = lanczos(Hessian(Objective(model, F.mse_loss, inputs, normal(30, C, seed=2), double=True)), k=2 * C)
    values, vectors = torch.linalg.eigh(2 * inputs.T @ inputs / (30 * C))
    top = torch.kron(torch.eye(C).double(), vectors.flip(1)[:, :2].contiguous())
    assert float((found.values - values.flip(0)[:2].repeat_interleave(C)).abs().max()) <= 1e-9
    assert float(principal_angles(found.vectors, top).max()) <= 1e-5


@pytest.mark.slow
def test_a_transformer_with_embeddings_has_pairs_like_its_dense_matrix() -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = transformers.BertConfig(**sizes, vocab_size=9, max_position_embeddings=6, attn_implementation="sdpa")
    bert = transformers.BertModel(config, add_pooling_layer=False)
    for n, parameter in enumerate(bert.parameters()):
        parameter.data = normal(*parameter.shape, seed=n).float() / 3 + (parameter.data if parameter.ndim < 2 else 0)

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = bert

        def forward(self, tokens: Tensor) -> Tensor:
            return self.body(input_ids=tokens).last_hidden_state[:, 0, :3]

    tokens = torch.randint(0, 9, (23, 5), generator=generator(3))
    objective = Objective(Reader(), F.cross_entropy, tokens, classes(), include="*encoder*", double=True)
    matrix = Hessian(objective).to_dense()
    assert float((matrix - matrix.T).norm()) <= 1e-12 * float(matrix.norm())
    error, angles = apart(lanczos(Hessian(objective), k=4, tolerance=1e-7), matrix)
    assert error <= BAR
    assert max(angles) <= BAR
