"""One weight matrix: two updates beside each other, an update beside its base."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from idim.errors import RequestError
from idim.spectral.comparison.compare import against_base, align, compare
from idim.spectral.comparison.records import BaseComparison, Comparison
from idim.spectral.comparison.update import inner_product, update_of
from idim.spectral.pairing.delta import Delta, Factors

M, N = 60, 40


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orthonormal(n: int, k: int, seed: int = 0) -> Tensor:
    return torch.linalg.qr(normal(n, k, seed=seed))[0]


def stored(change: Tensor, base: Tensor | None = None, name: str = "layer.weight") -> Delta:
    base = torch.zeros_like(change) if base is None else base
    shape = (change.shape[0], change.shape[1])
    return Delta(name=name, shape=shape, matrix=shape, base=base, tuned=base + change)


def adapter(factors: Factors, base: Tensor | None = None) -> Delta:
    return Delta(name="layer.weight", shape=factors.shape, matrix=factors.shape, base=base, factors=factors)


def low_rank(r: int, seed: int) -> Factors:
    return Factors(up=normal(M, r, seed=seed), down=normal(r, N, seed=seed + 1000), scale=0.5)


def planted(shared: int, k: int = 6) -> tuple[Delta, Delta]:
    """Two updates of rank k whose left spaces share ``shared`` directions and whose right spaces share none."""
    left, right = orthonormal(M, 2 * k - shared), orthonormal(N, 2 * k, 1)
    sizes = torch.linspace(2, 1, k, dtype=torch.float64).diag()
    a = left[:, :k] @ sizes @ right[:, :k].T
    return stored(a), stored(left[:, -k:] @ sizes @ right[:, k:].T)


@pytest.mark.parametrize("shared", [0, 2, 6])
def test_planted_overlap_on_one_side(shared: int) -> None:
    found = compare(*planted(shared), k=6)
    assert found.left is not None
    assert found.right is not None
    assert found.left.overlap == pytest.approx(shared / 6, abs=1e-6)
    assert found.right.overlap == pytest.approx(0, abs=1e-6)
    assert found.left.angles == pytest.approx([0.0] * shared + [math.pi / 2] * (6 - shared), abs=1e-6)
    assert found.left.geodesic == pytest.approx(math.pi / 2 * math.sqrt(6 - shared), abs=1e-6)
    assert found.left.chordal == pytest.approx(math.sqrt(6 - shared), abs=1e-6)
    assert (found.left.shared, found.right.shared) == (shared, 0)
    assert (found.left.dimension, found.right.dimension) == (M, N)
    assert found.left.chance.mean == 6 / M
    assert found.cosine == pytest.approx(0.0, abs=1e-6)


def test_an_update_beside_itself() -> None:
    found = compare(stored(normal(M, N)), stored(3 * normal(M, N)), k=8)
    for side in (found.left, found.right):
        assert side is not None
        assert [side.phi(i, i) for i in range(1, 9)] == pytest.approx([1.0] * 8)
        assert side.shared == 8
    assert found.cosine == pytest.approx(1.0)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 6), st.integers(1, 9))
def test_symmetry_and_common_rotations(seed: int, rank_a: int, rank_b: int, k: int) -> None:
    a, b = low_rank(rank_a, seed), low_rank(rank_b, seed + 1)
    one, other = compare(adapter(a), adapter(b), k=k), compare(adapter(b), adapter(a), k=k)
    assert (one.rank_a, one.rank_b) == (min(rank_a, k), min(rank_b, k)) == (other.rank_b, other.rank_a)
    assert one.inner == pytest.approx(other.inner)
    left, right = orthonormal(M, M, seed), orthonormal(N, N, seed + 2)
    turned = [adapter(Factors(up=left @ f.up, down=f.down @ right, scale=f.scale)) for f in (a, b)]
    both = compare(turned[0], turned[1], k=k)
    for side in ("left", "right"):
        ours = torch.tensor(getattr(one, side).similarity)
        torch.testing.assert_close(ours, torch.tensor(getattr(other, side).similarity).T)
        torch.testing.assert_close(ours, torch.tensor(getattr(both, side).similarity))
        assert getattr(both, side).geodesic == pytest.approx(getattr(one, side).geodesic, abs=1e-6)


def test_independent_updates_lie_in_the_band_of_chance() -> None:
    inside = shared = 0
    for seed in range(40):
        found = compare(adapter(low_rank(4, 3 * seed)), adapter(low_rank(4, 3 * seed + 1)), k=4)
        assert found.left is not None
        inside += found.left.chance.low <= found.left.overlap <= found.left.chance.high
        shared += found.left.shared
    assert inside >= 34  # 38 of 40 expected
    assert shared <= 4  # 1 of 160 expected: the largest of four cosines exceeds its 97.5 % in one pair of 40


def test_updates_of_the_same_rows_share_coordinates_and_no_direction() -> None:
    """Both change the same 12 of 60 rows, independently: more overlap than uniform spaces, all of it explained."""
    overlaps, lines = [], []
    for seed in range(40):
        a, b = (low_rank(4, 3 * seed + which) for which in (0, 1))
        for factors in (a, b):
            factors.up[12:] = 0
        left = compare(adapter(a), adapter(b), k=4).left
        assert left is not None
        overlaps.append(left.overlap)
        lines.append(left.coordinates)
    assert left.chance.mean == 4 / 60
    assert sum(overlaps) / 40 == pytest.approx(4 / 12, abs=0.05)
    assert sum(lines) / 40 == pytest.approx(sum(overlaps) / 40, abs=0.05)


def test_factors_say_what_their_product_says() -> None:
    a, b = low_rank(5, 1), low_rank(3, 2)
    exact = compare(adapter(a), adapter(b), k=5)
    dense = compare(stored(a.dense()), stored(b.dense()), k=5)
    mixed = compare(stored(a.dense()), adapter(b), k=5)
    for other in (dense, mixed):
        assert (other.rank_a, other.rank_b) == (5, 3)
        assert other.inner == pytest.approx(exact.inner, rel=1e-5)
        assert exact.left is not None
        assert other.left is not None
        for ours, theirs in zip(exact.left.similarity, other.left.similarity, strict=True):
            assert ours == pytest.approx(theirs, abs=1e-5)


def test_inner_products_of_every_pairing() -> None:
    a, b = low_rank(4, 1), low_rank(2, 2)
    expected = float((a.dense() * b.dense()).sum())
    kinds = [(adapter(a), adapter(b)), (adapter(a), stored(b.dense())), (stored(a.dense()), stored(b.dense()))]
    for one, other in kinds:
        assert inner_product(update_of(one), update_of(other)) == pytest.approx(expected, rel=1e-5)
        assert inner_product(update_of(other), update_of(one)) == pytest.approx(expected, rel=1e-5)


def test_an_update_that_is_zero() -> None:
    found = compare(stored(normal(M, N)), stored(torch.zeros(M, N)), k=3)
    assert (found.left, found.right, found.cosine, found.rank_b) == (None, None, None, 0)
    assert found.why == "the second update is zero"
    assert compare(stored(torch.zeros(M, N)), stored(torch.zeros(M, N))).why == "the first and second update is zero"


def test_a_vector_has_an_inner_product_and_no_directions() -> None:
    a, b = (Delta(name="bias", shape=(3,), matrix=None, base=torch.zeros(3), tuned=torch.tensor(t)) for t in (
        [3.0, 4.0, 0.0], [0.0, 5.0, 0.0],
    ))  # fmt: skip
    found = compare(a, b)
    assert (found.norm_a, found.norm_b, found.inner, found.cosine) == (5.0, 5.0, 20.0, 0.8)
    assert (found.left, found.why) == (None, "a vector has no directions")


def test_bad_requests() -> None:
    a, wide = stored(normal(M, N)), stored(normal(N, M))
    with pytest.raises(RequestError, match=r"one shape; received \[60, 40\] and \[40, 60\] for layer.weight"):
        compare(a, wide)
    with pytest.raises(RequestError, match="k must be at least 1; received 0"):
        compare(a, a, k=0)
    with pytest.raises(RequestError, match="top must be at least 1; received 0"):
        against_base(a, top=0)
    with pytest.raises(RequestError, match=r"needs its weights; received only the adapter of layer\.weight"):
        against_base(adapter(low_rank(2, 1)))
    with pytest.raises(RequestError, match=r"NaN or infinity in layer\.weight of the base"):
        against_base(stored(normal(M, N), base=torch.full((M, N), float("nan"), dtype=torch.float64)))
    found = compare(adapter(low_rank(2, 1)), adapter(low_rank(3, 2)))
    assert found.left is not None
    with pytest.raises(RequestError, match=r"i from 1 to 2 and j from 1 to 3; received \(3, 1\)"):
        found.left.phi(3, 1)


def test_the_amplification_factor_in_closed_form() -> None:
    """The update strengthens directions 5, 6, 7 of the base, whose singular values there are 1, 2, 3 hundredths."""
    left, right = orthonormal(M, N), orthonormal(N, N, 1)
    values = torch.full((N,), 2.0, dtype=torch.float64)
    values[0], values[5:8] = 3.0, torch.tensor([0.01, 0.02, 0.03])
    base = left @ values.diag() @ right.T
    update = left[:, 5:8] @ torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64).diag() @ right[:, 5:8].T
    found = against_base(stored(update, base), k=3)
    assert found.amplification is not None
    assert found.amplification.on_update == pytest.approx([0.01, math.hypot(0.01, 0.02), math.hypot(0.01, 0.02, 0.03)])
    assert found.amplification.on_own == pytest.approx([3.0, math.hypot(3, 2), math.hypot(3, 2, 2)])
    assert found.amplification.factor(1) == pytest.approx(math.sqrt(14) / 0.01, rel=1e-6)
    assert found.left is not None
    assert found.left.overlap == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(RequestError, match="has 3 directions here; received r = 4"):
        found.amplification.factor(4)


def test_the_random_line_of_the_amplification() -> None:
    base, squares = normal(M, N), []
    for seed in range(300):
        u, v = orthonormal(M, 3, 2 * seed + 10), orthonormal(N, 3, 2 * seed + 11)
        squares.append(float((u.T @ base @ v).square().sum()))
    found = against_base(stored(normal(M, N, seed=1), base), k=3).amplification
    assert found is not None
    assert found.on_random[2] == pytest.approx(math.sqrt(sum(squares) / 300), rel=0.05)


def test_an_update_along_the_base_is_not_amplified() -> None:
    base = orthonormal(M, 4) @ torch.tensor([4.0, 3, 2, 1], dtype=torch.float64).diag() @ orthonormal(N, 4, 1).T
    found = against_base(stored(0.1 * base, base), k=4)
    assert found.amplification is not None
    assert found.amplification.factor(4) == pytest.approx(0.1)
    assert found.left is not None
    assert found.left.overlap == pytest.approx(1.0)
    assert (found.intruders.left.count, found.intruders.top) == (0, 4)


def test_adapter_and_stored_twin_beside_the_base() -> None:
    factors, base = low_rank(4, 1), normal(M, N)
    exact, dense = against_base(adapter(factors, base)), against_base(stored(factors.dense(), base))
    assert exact.intruders.left.best_cosines == pytest.approx(dense.intruders.left.best_cosines, abs=1e-5)
    assert exact.intruders.right.count == dense.intruders.right.count
    assert exact.amplification is not None
    assert dense.amplification is not None
    assert exact.amplification.on_update == pytest.approx(dense.amplification.on_update[:4], rel=1e-4)


def test_zero_update_and_zero_base() -> None:
    still = against_base(stored(torch.zeros(M, N), normal(M, N)))
    assert (still.left, still.amplification, still.why) == (None, None, "the update is zero")
    assert still.intruders.left.count == 0
    new = against_base(stored(normal(M, N)), k=2)
    assert (new.left, new.why) == (None, "the base is zero")
    assert new.amplification is not None
    assert new.amplification.factor(1) is None


def test_records_go_to_json_and_back() -> None:
    a, b = stored(normal(M, N), normal(M, N, seed=1)), stored(normal(M, N, seed=2), normal(M, N, seed=1))
    zero = stored(torch.zeros(M, N), normal(M, N))
    for between in (compare(a, b), compare(a, zero)):
        assert Comparison.from_json(json.loads(json.dumps(between.to_json(), allow_nan=False))) == between
    for beside in (against_base(a), against_base(zero), against_base(stored(normal(M, N)))):
        assert BaseComparison.from_json(json.loads(json.dumps(beside.to_json(), allow_nan=False))) == beside


def test_an_alignment_of_nothing_is_none() -> None:
    assert align(orthonormal(5, 2), torch.zeros(5, 0)) is None
