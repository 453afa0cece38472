"""Inner products of long vectors, and orthonormal columns made by them."""

from __future__ import annotations

import pytest
import torch
from curvature_cases import Dense, normal
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from idim.learned.lanczos import lanczos
from idim.learned.sums import inner, norm, orthonormal
from idim.spectral.comparison.angles import principal_angles

LONG = 3_000_000


def off(vectors: Tensor) -> float:
    return float((inner(vectors, vectors) - torch.eye(vectors.shape[1])).abs().max())


def test_long_float32_vectors_are_multiplied_to_their_precision() -> None:
    """A running sum in float32 of so many equal numbers is several per cent off."""
    a, b = torch.full((LONG, 2), 0.1), torch.full((LONG,), 0.1)
    exact = LONG * float(a[0, 0]) ** 2
    assert inner(a, b).tolist() == pytest.approx([exact, exact], rel=1e-12)
    assert inner(a, a).flatten().tolist() == pytest.approx([exact] * 4, rel=1e-12)
    assert norm(b) == pytest.approx(exact**0.5, rel=1e-9)
    assert inner(a, b).dtype == torch.float64


def test_long_columns_become_orthonormal() -> None:
    vectors = torch.randn(LONG // 4, 4, generator=torch.Generator().manual_seed(0))
    vectors[:, 3] += 30 * vectors[:, 0]  # nearly dependent
    assert off(orthonormal(vectors)) <= 1e-6


@settings(max_examples=30, deadline=None)
@given(D=st.integers(6, 60), k=st.integers(1, 6), seed=st.integers(0, 99), scale=st.floats(1e-20, 1e20))
def test_columns_keep_their_span_and_orthonormal_ones_stay(D: int, k: int, seed: int, scale: float) -> None:
    vectors = normal(D, k, seed=seed) * scale
    found = orthonormal(vectors)
    assert off(found) <= 1e-13
    assert float(principal_angles(found, torch.linalg.qr(vectors / scale)[0]).max()) <= 1e-9
    assert float((orthonormal(found) - found).abs().max()) <= 1e-13


def test_dependent_columns_leave_a_basis_of_their_span() -> None:
    two = torch.linalg.qr(normal(50, 2))[0]
    vectors = torch.cat([two, two.sum(1, keepdim=True), torch.zeros(50, 1).double()], dim=1)
    found = orthonormal(vectors)
    assert found.shape == (50, 2)
    assert float(principal_angles(found, two).max()) <= 1e-9
    assert orthonormal(torch.zeros(50, 3)).shape == (50, 0)


def test_pairs_of_a_long_float32_matrix_are_measured_right() -> None:
    diagonal = torch.rand(LONG // 2, generator=torch.Generator().manual_seed(0))
    diagonal[:3] = torch.tensor([7.0, 5.0, 4.0])

    class Diagonal(Dense):
        def __init__(self) -> None:
            self.D, self.dtype, self.device = len(diagonal), diagonal.dtype, diagonal.device

        def matvec(self, v: Tensor) -> Tensor:
            return diagonal * v

    found = lanczos(Diagonal(), k=3, width=10, tolerance=1e-5)
    assert found.converged
    assert found.values.tolist() == pytest.approx([7.0, 5.0, 4.0], rel=1e-6)
    assert off(found.vectors) <= 5e-6
