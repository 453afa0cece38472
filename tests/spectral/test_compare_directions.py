"""Leading directions against a plain svd, for matrices and factors, and what has no directions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from idim.errors import RequestError
from idim.spectral.comparison.angles import principal_angles
from idim.spectral.comparison.update import update_of
from idim.spectral.decomposition import directions
from idim.spectral.decomposition.directions import Directions, of_base, of_factors, of_matrix
from idim.spectral.pairing.delta import Delta, Factors

SHAPES = [(30, 12), (12, 30), (20, 20), (1, 9), (9, 1)]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def agrees(found: Directions, matrix: Tensor, k: int) -> None:
    u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
    torch.testing.assert_close(found.values, s[:k], rtol=1e-10, atol=0.0)
    assert found.norm == pytest.approx(float(matrix.norm()), rel=1e-12)
    for ours, theirs in ((found.left, u[:, :k]), (found.right, vt[:k].T)):
        torch.testing.assert_close(ours.T @ ours, torch.eye(k, dtype=torch.float64), rtol=0.0, atol=1e-12)
        assert float(principal_angles(ours, theirs).max()) < 1e-7
    torch.testing.assert_close(found.left.T @ matrix @ found.right, found.values.diag(), rtol=0.0, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("k", [1, 5, 100])
def test_leading_directions_are_those_of_the_svd(shape: tuple[int, int], k: int) -> None:
    matrix = normal(*shape)
    agrees(of_matrix(matrix, k), matrix, min(k, *shape))


@pytest.mark.parametrize("shape", SHAPES)
def test_blocks_of_rows_do_not_matter(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = of_matrix(normal(*shape), 4)
    monkeypatch.setattr(directions, "BLOCK", 25)
    blocks = of_matrix(normal(*shape), 4)
    torch.testing.assert_close(blocks.values, whole.values, rtol=1e-12, atol=0.0)
    assert float(principal_angles(blocks.right, whole.right).max()) < 1e-7


@pytest.mark.parametrize("k", [2, 3, 8])
def test_factors_give_the_directions_of_their_product(k: int) -> None:
    factors = Factors(up=normal(30, 3), down=normal(3, 12, seed=1), scale=-0.25)
    agrees(of_factors(factors, k), factors.dense(), min(k, 3))


def test_factors_wider_than_the_matrix() -> None:
    factors = Factors(up=normal(6, 20), down=normal(20, 9, seed=1), scale=2.0)
    agrees(of_factors(factors, 6), factors.dense(), 6)


def test_the_rank_is_that_of_the_matrix_and_not_k() -> None:
    low = normal(40, 2) @ normal(2, 25, seed=1)
    assert of_matrix(low, 8).rank == 2
    assert of_factors(Factors(up=torch.cat([normal(9, 2)] * 2, 1), down=normal(4, 7), scale=1.0), 8).rank == 2
    zero = of_matrix(torch.zeros(5, 3), 2)
    assert (zero.rank, zero.norm, zero.left.shape, zero.right.shape) == (0, 0.0, (5, 0), (3, 0))
    assert of_factors(Factors(up=torch.zeros(5, 2), down=normal(2, 3), scale=1.0), 2).rank == 0
    assert of_base(torch.zeros(5, 3)).first(2).rank == 0


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_cosines_with_every_base_direction(shape: tuple[int, int], dtype: torch.dtype) -> None:
    weights, given = normal(*shape).to(dtype), of_matrix(normal(*shape, seed=1), 3)
    u, _, vt = torch.linalg.svd(weights.double(), full_matrices=False)
    left, right = of_base(weights).cosines(given)
    torch.testing.assert_close(left, (u.T @ given.left).abs(), rtol=0.0, atol=1e-9)
    torch.testing.assert_close(right, (vt @ given.right).abs(), rtol=0.0, atol=1e-9)


def test_base_directions_of_an_ill_conditioned_matrix() -> None:
    u, v = torch.linalg.qr(normal(60, 20))[0], torch.linalg.qr(normal(20, 20, seed=1))[0]
    weights = u @ torch.logspace(0, -5, 20, dtype=torch.float64).diag() @ v.T
    given = Directions(left=u[:, -4:], values=torch.ones(4), right=v[:, -4:], norm=2.0)
    left, right = of_base(weights).cosines(given)
    expected = torch.eye(20, dtype=torch.float64)[:, -4:]
    torch.testing.assert_close(left, expected, rtol=0.0, atol=1e-5)
    torch.testing.assert_close(right, expected, rtol=0.0, atol=1e-5)


def test_a_delta_of_each_kind() -> None:
    base, factors = normal(12, 8), Factors(up=normal(12, 2), down=normal(2, 8), scale=0.5)
    stored = Delta(name="w", shape=(12, 8), matrix=(12, 8), base=base, tuned=base + factors.dense())
    adapter = Delta(name="w", shape=(12, 8), matrix=(12, 8), factors=factors)
    torch.testing.assert_close(
        update_of(stored).directions(2).values, update_of(adapter).directions(2).values, rtol=1e-6, atol=0.0
    )


def test_what_has_no_directions_is_refused() -> None:
    vector = Delta(name="norm.bias", shape=(4,), matrix=None, base=torch.ones(4), tuned=torch.zeros(4))
    assert (update_of(vector).directions(2).rank, update_of(vector).directions(2).norm) == (0, 2.0)
    bad = normal(5, 4)
    bad[2, 3] = float("nan")
    with pytest.raises(RequestError, match=r"must be finite; received NaN or infinity in layer\.weight"):
        of_matrix(bad, 2, name="layer.weight")
    with pytest.raises(RequestError, match="must be finite"):
        of_factors(Factors(up=bad, down=normal(4, 4), scale=1.0), 2)
