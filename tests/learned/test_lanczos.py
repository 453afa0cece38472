"""Lanczos beside dense eigensolvers: both ends, equal eigenvalues, shift and scale, bounds, memory, and refusals."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from curvature_cases import Dense, normal, turned
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from idim.errors import RequestError
from idim.learned.lanczos import EigenPairs, lanczos
from idim.spectral.comparison.angles import principal_angles

ORDER = {"magnitude": torch.abs, "largest": lambda x: x, "smallest": torch.neg}
ENDS = pytest.mark.parametrize("which", ORDER)
SPECTRA = {
    "even": torch.linspace(-1, 1.3, 150, dtype=torch.float64),
    "harmonic": 1 / torch.arange(1, 151, dtype=torch.float64),
    "few large": torch.cat([torch.tensor([9.0, -8.0, 7.0, 6.0, 5.0, 4.0]), normal(144, seed=1) / 9]).double(),
    "clustered": torch.cat([torch.tensor([1, 0.999, 0.998, -1.01, -1.009, 0.9]).double(), normal(144, seed=2) / 9]),
}
FEW = settings(max_examples=15, deadline=None)


def wanted(values: Tensor, basis: Tensor, which: str, k: int) -> tuple[Tensor, Tensor]:
    order = ORDER[which](values).argsort(descending=True)[:k]
    return values[order], basis[:, order]


def orthonormal(vectors: Tensor, tolerance: float = 1e-13) -> None:
    assert float((vectors.T.double() @ vectors.double() - torch.eye(vectors.shape[1])).norm()) <= tolerance


@ENDS
@pytest.mark.parametrize("name", SPECTRA)
def test_pairs_are_those_of_the_dense_solver(name: str, which: Any) -> None:
    matrix, basis = turned(SPECTRA[name])
    values, vectors = wanted(SPECTRA[name], basis, which, 5)
    found = lanczos(Dense(matrix), k=5, which=which, tolerance=1e-8)
    assert found.converged
    assert found.vectors.shape == (150, 5)
    bound = found.residuals.square() / found.gap + 1e-14 * float(torch.linalg.matrix_norm(matrix, 2))  # Kato, Temple
    assert bool(((found.values - values).abs() <= bound).all())
    assert float(((found.values - values) / values).abs().max()) <= 1e-10
    assert float((found.vectors * vectors).sum(0).abs().min()) >= 1 - 1e-8
    orthonormal(found.vectors)


@ENDS
@pytest.mark.parametrize("name", SPECTRA)
def test_float32_reaches_its_precision(name: str, which: Any) -> None:
    matrix, basis = turned(SPECTRA[name])
    values, _ = wanted(SPECTRA[name], basis, which, 5)
    found = lanczos(Dense(matrix.float()), k=5, which=which, tolerance=1e-5)
    assert found.converged
    assert found.vectors.dtype == torch.float32
    assert float((found.values - values).abs().max()) <= 4e-7 * float(matrix.norm())
    orthonormal(found.vectors, 1e-5)


@pytest.mark.parametrize(
    ("values", "k"),
    [([5.0] * 10 + [1.0] * 3, 10), ([5.0] * 4 + [-4.0] * 9, 13), ([3.0, 3.0, 3.0, 2.0, 2.0, 1.0], 6), ([7.0], 4)],
)
@pytest.mark.parametrize("rest", ["zero", "small"])
def test_equal_eigenvalues_are_all_found(values: list[float], k: int, rest: str) -> None:
    others = torch.zeros(200 - len(values)) if rest == "zero" else normal(200 - len(values), seed=3).abs() / 10
    every = torch.cat([torch.tensor(values), others]).double()
    matrix, basis = turned(every)
    expected, vectors = wanted(every, basis, "magnitude", k)
    found = lanczos(Dense(matrix), k=k)
    assert found.converged
    assert float((found.values - expected).abs().max()) <= 1e-9
    orthonormal(found.vectors)
    if k == len(values):
        assert float(principal_angles(found.vectors, vectors).max()) <= 1e-5


@FEW
@given(
    scale=st.floats(0.01, 100),
    flip=st.booleans(),
    shift=st.floats(-3, 3),
    name=st.sampled_from(list(SPECTRA)),
    k=st.integers(1, 6),
)
def test_shift_and_scale_move_the_values_and_keep_the_vectors(
    scale: float, flip: bool, shift: float, name: str, k: int
) -> None:
    matrix, _ = turned(SPECTRA[name])
    factor = -scale if flip else scale
    moved = factor * (matrix + shift * torch.eye(len(matrix), dtype=matrix.dtype))
    plain = lanczos(Dense(matrix), k=k, which="largest", tolerance=1e-9)
    other = lanczos(Dense(moved), k=k, which="smallest" if flip else "largest", tolerance=1e-9)
    bound = 1e-9 * scale * float(matrix.norm())
    assert float((other.values - factor * (plain.values + shift)).abs().max()) <= bound
    assert float((other.vectors * plain.vectors).sum(0).abs().min()) >= 1 - 1e-9


@FEW
@given(D=st.integers(1, 40), k=st.integers(1, 40), which=st.sampled_from(list(ORDER)), seed=st.integers(0, 9))
def test_any_size_agrees_with_the_dense_solver(D: int, k: int, which: Any, seed: int) -> None:
    k = min(k, D)
    matrix = normal(D, D, seed=seed)
    matrix = matrix + matrix.T
    values, _ = wanted(torch.linalg.eigvalsh(matrix), matrix, which, k)
    found = lanczos(Dense(matrix), k=k, which=which, seed=seed)
    assert found.converged
    assert float((found.values - values).abs().max()) <= 1e-10 * D
    orthonormal(found.vectors, 1e-12)


def errors(tolerance: float) -> tuple[EigenPairs, Tensor, Tensor]:
    matrix, basis = turned(SPECTRA["few large"])
    return lanczos(Dense(matrix), k=3, tolerance=tolerance), *wanted(SPECTRA["few large"], basis, "magnitude", 3)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-3, 1e-5])
def test_residuals_bound_the_values_and_the_angle_bounds_the_vectors(tolerance: float) -> None:
    found, values, vectors = errors(tolerance)
    assert bool(((found.values - values).abs() <= found.residuals + 1e-14).all())
    assert bool((found.residuals <= tolerance * 9).all())
    assert float(principal_angles(found.vectors, vectors).max()) <= 1.01 * found.angle + 1e-12
    matrix, _ = turned(SPECTRA["few large"])
    apart = (matrix @ found.vectors - found.vectors * found.values).norm(dim=0)
    assert float((apart - found.residuals).abs().max()) <= 1e-12


def test_the_basis_stays_within_its_width_and_products_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    empty = torch.empty

    def counting(*size: Any, **options: Any) -> Tensor:
        made.append(size)
        return empty(*size, **options)

    monkeypatch.setattr(torch, "empty", counting)
    matrix = Dense(turned(SPECTRA["even"])[0])
    found = lanczos(matrix, k=3, width=9)
    assert found.converged
    assert made == [(10, 150)]
    assert found.products == matrix.count > 50


def test_the_same_seed_gives_the_same_bits_and_no_global_number_is_drawn() -> None:
    matrix, _ = turned(SPECTRA["even"])
    before = torch.random.get_rng_state()
    one, two = (lanczos(Dense(matrix), k=3, seed=5) for _ in range(2))
    assert torch.equal(one.vectors, two.vectors)
    assert torch.equal(torch.random.get_rng_state(), before)
    other = lanczos(Dense(matrix), k=3, seed=6)
    assert not torch.equal(one.vectors, other.vectors)
    assert float(principal_angles(one.vectors, other.vectors).max()) <= one.angle + other.angle + 1e-9


def test_too_few_products_are_said() -> None:
    matrix = Dense(turned(SPECTRA["even"])[0])
    found = lanczos(matrix, k=5, products=20)
    assert not found.converged
    assert found.products <= 20 + 30 + 5
    assert float(found.residuals.max()) > 1e-6


def test_the_zero_matrix_has_the_values_zero() -> None:
    found = lanczos(Dense(torch.zeros(60, 60)), k=2)
    assert found.converged
    assert not found.values.any()
    assert not found.residuals.any()
    assert found.angle == 0.0
    orthonormal(found.vectors, 1e-6)


def test_a_product_may_be_the_vector_itself() -> None:
    class Identity(Dense):
        def matvec(self, v: Tensor) -> Tensor:
            return v

    found = lanczos(Identity(torch.zeros(60, 60).double()), k=2)
    assert found.values.tolist() == pytest.approx([1.0, 1.0])
    assert float(found.residuals.max()) <= 1e-12
    orthonormal(found.vectors)


def test_an_angle_without_a_gap_is_a_right_one() -> None:
    found = lanczos(Dense(torch.diag(torch.cat([torch.full((5,), 2.0), torch.ones(45)])).double()), k=3)
    assert found.gap < 1e-12
    whole = lanczos(Dense(torch.eye(4).double()), k=4)
    assert whole.gap == math.inf
    assert whole.angle == 0.0
    zero = EigenPairs(
        values=torch.ones(1), vectors=torch.ones(1, 1), residuals=torch.ones(1), gap=0.0, products=1, converged=False
    )
    assert zero.angle == pytest.approx(math.pi / 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, r"k must be between 1 and D = 50; received k = 0"),
        ({"k": 51}, r"k must be between 1 and D = 50; received k = 51"),
        ({"k": 3, "which": "biggest"}, r"unknown end of the spectrum 'biggest'.*largest, magnitude, smallest"),
        ({"k": 3, "tolerance": 0.0}, r"tolerance must be above 0 and below 1; received 0.0"),
        ({"k": 3, "tolerance": float("nan")}, r"tolerance must be above 0 and below 1; received nan"),
        ({"k": 3, "width": 4}, r"width must be between k \+ 2 = 5 and D = 50; received 4"),
        ({"k": 3, "width": 51}, r"width must be between k \+ 2 = 5 and D = 50; received 51"),
        ({"k": 3, "products": 0}, r"products must be at least 1; received 0"),
    ],
)
def test_bad_input_is_refused_in_a_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        lanczos(Dense(torch.eye(50)), **options)
    assert "\n" not in str(caught.value)


def test_a_product_that_is_not_finite_is_refused() -> None:
    with pytest.raises(RequestError, match="products of the matrix must be finite; received NaN or infinity in 1"):
        lanczos(Dense(torch.full((9, 9), math.nan)), k=1)
