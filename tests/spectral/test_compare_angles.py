"""Principal angles, distances and φ against scipy, closed forms and their own invariances."""

from __future__ import annotations

import math

import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from idim.errors import RequestError
from idim.spectral.comparison.angles import chordal, geodesic, principal_angles
from idim.spectral.comparison.similarity import similarity_table

EXACT = {"rtol": 0.0, "atol": 1e-12}


def orthonormal(n: int, k: int, seed: int = 0) -> Tensor:
    draw = torch.randn(n, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.linalg.qr(draw)[0]


@st.composite
def two_bases(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    n = draw(st.integers(2, 30))
    i, j, seed = draw(st.integers(1, n)), draw(st.integers(1, n)), draw(st.integers(0, 2**32))
    return orthonormal(n, i, seed), orthonormal(n, j, seed + 1)


@settings(deadline=None, max_examples=60)
@given(two_bases())
def test_angles_are_those_of_scipy_and_symmetric(bases: tuple[Tensor, Tensor]) -> None:
    a, b = bases
    found = principal_angles(a, b)
    oracle = torch.from_numpy(scipy.linalg.subspace_angles(a.numpy(), b.numpy())).flip(0)
    torch.testing.assert_close(found, oracle, rtol=0.0, atol=1e-7)
    torch.testing.assert_close(found, principal_angles(b, a), rtol=0.0, atol=1e-7)
    assert bool((found.diff() >= -1e-12).all())


@settings(deadline=None, max_examples=40)
@given(two_bases(), st.integers(0, 2**32))
def test_angles_see_the_spaces_and_not_their_bases(bases: tuple[Tensor, Tensor], seed: int) -> None:
    a, b = bases
    turned, common = a @ orthonormal(a.shape[1], a.shape[1], seed), orthonormal(len(a), len(a), seed + 1)
    for one, other in ((turned, b), (common @ a, common @ b)):
        torch.testing.assert_close(principal_angles(one, other), principal_angles(a, b), rtol=0.0, atol=1e-7)
        assert similarity_table(one, other)[-1, -1] == pytest.approx(float(similarity_table(a, b)[-1, -1]), abs=1e-12)


@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-9, 1e-4, math.pi / 4, 1.0, math.pi / 2 - 1e-9, math.pi / 2])
def test_angles_of_any_size_are_exact(angle: float) -> None:
    a = torch.eye(5, dtype=torch.float64)[:, :2]
    b = torch.zeros(5, 2, dtype=torch.float64)
    b[0, 0], b[1, 1], b[4, 1] = 1.0, math.cos(angle), math.sin(angle)
    found = principal_angles(a, b)
    assert float(found[1]) == pytest.approx(angle, rel=1e-9, abs=1e-16)
    assert geodesic(found) == pytest.approx(angle, rel=1e-9, abs=1e-16)
    assert chordal(found) == pytest.approx(math.sin(angle), rel=1e-9, abs=1e-16)


@settings(deadline=None, max_examples=40)
@given(two_bases())
def test_the_chordal_distance_is_that_of_the_projectors(bases: tuple[Tensor, Tensor]) -> None:
    a, b = bases
    k = min(a.shape[1], b.shape[1])
    a, b = a[:, :k], b[:, :k]
    projectors = float(torch.linalg.matrix_norm(a @ a.T - b @ b.T)) / math.sqrt(2)
    assert chordal(principal_angles(a, b)) == pytest.approx(projectors, abs=1e-7)


def test_a_space_inside_another_is_at_distance_zero() -> None:
    large = orthonormal(20, 7)
    inside = large @ orthonormal(7, 3, 1)
    assert geodesic(principal_angles(inside, large)) < 1e-14
    assert float(similarity_table(inside, large)[-1, -1]) == pytest.approx(1.0, abs=1e-14)


@settings(deadline=None, max_examples=40)
@given(two_bases())
def test_phi_is_its_definition_for_every_pair(bases: tuple[Tensor, Tensor]) -> None:
    a, b = bases
    table = similarity_table(a, b)
    assert bool(((table >= 0) & (table <= 1)).all())
    torch.testing.assert_close(table, similarity_table(b, a).T, **EXACT)
    for i, j in ((1, 1), table.shape, (1, table.shape[1]), (table.shape[0], 1)):
        direct = float((a[:, :i].T @ b[:, :j]).square().sum()) / min(i, j)
        assert float(table[i - 1, j - 1]) == pytest.approx(direct, abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(two_bases())
def test_phi_of_a_matrix_with_itself(bases: tuple[Tensor, Tensor]) -> None:
    torch.testing.assert_close(
        similarity_table(bases[0], bases[0]), torch.ones(2 * (bases[0].shape[1],)).double(), **EXACT
    )


def test_phi_is_the_mean_squared_cosine_of_the_angles() -> None:
    a, b = orthonormal(40, 6), orthonormal(40, 4, 1)
    expected = float(principal_angles(a, b).cos().square().mean())
    assert float(similarity_table(a, b)[-1, -1]) == pytest.approx(expected, abs=1e-12)


def test_a_planted_overlap_gives_its_closed_form() -> None:
    """Of 8 directions each, the spaces share the second of one and the fifth of the other: 1/min(i, j) from there."""
    whole = orthonormal(64, 16)
    a, b = whole[:, :8], whole[:, 8:].clone()
    b[:, 4] = a[:, 1]
    table = similarity_table(a, b)
    for i in range(1, 9):
        for j in range(1, 9):
            expected = 1 / min(i, j) if i >= 2 and j >= 5 else 0.0
            assert float(table[i - 1, j - 1]) == pytest.approx(expected, abs=1e-12)


def test_single_precision_bases_are_taken() -> None:
    a, b = orthonormal(30, 3).float(), orthonormal(30, 3, 1).float()
    torch.testing.assert_close(principal_angles(a, b), principal_angles(a.double(), b.double()))


@pytest.mark.parametrize("function", [principal_angles, similarity_table])
def test_bases_of_different_spaces_are_refused(function: object) -> None:
    with pytest.raises(RequestError, match=r"columns of one length; received shapes \[5, 2\] and \[6, 2\]"):
        function(orthonormal(5, 2), orthonormal(6, 2))  # type: ignore[operator]
