import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from idim.errors import RequestError
from idim.kernels import blocks
from idim.kernels.bits import signs, stream_key
from idim.kernels.walsh import fwht
from idim.projections import Hadamard

# D, d: whole blocks and cut ones, d below, at and above a power of two, one group and many, few lanes and 16
SHAPES = [
    (1, 1),
    (7, 1),
    (100, 1),
    (40, 2),
    (5, 5),
    (1000, 10),
    (300, 33),
    (3000, 17),
    (600, 600),
    (20_000, 40),
    (70_000, 1000),
    (16_384, 1024),
    (90_000, 4000),
    (150_000, 5000),
    (100_000, 9000),
    (50_000, 33_000),
    (140_000, 70_000),
]
GOLDEN = [
    [-16, 8, 16, 8, 24, 0, -24, 0, 16, 24],
    [8, -24, 8, -8, 24, 8, 8, -24, -8, 8],
    [0, 8, 32, 8, -8, 16, 8, 16, 0, -8],
    [0, 0, 16, 16, 16, -16, 0, 0, 0, 0],
    [-8, -8, -8, -8, -8, 24, -8, 8, -8, -40],
    [-24, 8, -32, 0, 40, 8, 16, 0, 8, 8],
]
GOLDEN_LARGE = [31628, -24496, 51884, -1984]
ROUND_OFF = {torch.float64: 1e-14, torch.float32: 4e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}


def normal(*size, seed=0, dtype=torch.float64):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def reference(P, z, start=0, stop=None):
    rows = blocks.lift(z.double(), start, P.D if stop is None else stop, P._layout, P._keys)
    return torch.cat([values for _, values in rows]) * P._scale


def reference_pull(P, g, start=0):
    return blocks.pull(g.double(), start, P.d, P._layout, P._keys) * P._scale


def close(x, expected, dtype):
    return float((x.double() - expected).norm()) <= ROUND_OFF[dtype] * float(expected.norm())


@pytest.mark.parametrize(("D", "d"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_kernels_agree_with_the_definition(D, d, dtype):
    P = Hadamard(D=D, d=d, seed=3)
    z, g, base = normal(d, dtype=dtype), normal(D, seed=1, dtype=dtype), normal(D, seed=2, dtype=dtype)
    expected = reference(P, z)
    assert close(P.matvec(z), expected, dtype)
    assert close(P.matvec(z, base=base), base.double() + expected, dtype)
    assert close(P.rmatvec(g), reference_pull(P, g), dtype)


def test_definition_written_out():
    """One cut group of four lanes, spelled from the formulas of the documentation, entry by entry."""
    D, d, n, seed = 310, 100, 128, 5
    z, rows = normal(d), torch.zeros(D, dtype=torch.float64)
    blocks_in_group, lanes = 3, 4
    part = n * lanes // 16
    for b in range(blocks_in_group):
        x = torch.zeros(n, dtype=torch.float64)
        x[:d] = z
        for r in (1, 2, 3):
            x = fwht(signs(stream_key(seed, f"hadamard/{r}"), b * n + torch.arange(n), torch.float64) * x) / math.sqrt(
                n
            )
        for p in range(n):
            row = p % part * (16 // lanes) * blocks_in_group + p // part * blocks_in_group + b
            if row < D:
                rows[row] = x[p] * math.sqrt(n / D)
    P = Hadamard(D=D, d=d, seed=seed)
    assert P._layout.groups(0, 1) == blocks.Groups(start=0, first=0, count=1, blocks=blocks_in_group, lanes=lanes)
    assert torch.allclose(P.matvec(z), rows, rtol=0, atol=1e-14)


@pytest.mark.parametrize(("D", "d"), [(1024, 10), (16 * 16 * 3, 16), (64 * 5, 50), (4 * 4, 3), (2048 * 7, 2000)])
def test_columns_are_orthonormal_when_n_divides_D(D, d):
    dense = Hadamard(D=D, d=d, seed=1).to_dense()
    assert torch.allclose(dense.T @ dense, torch.eye(d, dtype=torch.float64), rtol=0, atol=1e-13)


def test_columns_are_orthonormal_for_large_blocks():
    P = Hadamard(D=8192 * 7, d=8000)
    z = normal(8000)
    assert close(P.rmatvec(P.matvec(z)), z, torch.float64)


@pytest.mark.parametrize("d", [1, 3, 12, 40])
def test_expected_gram_matrix_is_the_identity(d):
    D, seeds = 97, 400
    grams = torch.stack([(m := Hadamard(D=D, d=d, seed=s).to_dense()).T @ m for s in range(seeds)])
    error = grams.std(dim=0) / math.sqrt(seeds)
    assert bool(((grams.mean(dim=0) - torch.eye(d)).abs() <= 5 * error + 1e-12).all())


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_range_of_rows(data):
    D, d = data.draw(st.sampled_from([(1000, 10), (300, 33), (40_000, 600), (150_000, 5000), (100, 1)]))
    start = data.draw(st.integers(0, D - 1))
    stop = data.draw(st.integers(start + 1, D))
    P, z, g = Hadamard(D=D, d=d, seed=2), normal(d, dtype=torch.float32), normal(stop - start, dtype=torch.float32)
    rows = P.rows(start, stop)
    assert torch.equal(rows.matvec(z), P.matvec(z)[start:stop])
    # relative to the expected size of the sum, as the sum itself may cancel
    error = rows.rmatvec(g).double() - reference_pull(P, g, start)
    assert float(error.norm()) <= ROUND_OFF[torch.float32] * float(g.norm()) * math.sqrt(d / D)


def test_rows_beside_a_range_are_left_alone():
    P, out = Hadamard(D=40_000, d=600), torch.full((40_000,), 7.0)
    P.rows(1001, 33_003).matvec(normal(600, dtype=torch.float32), out=out[1001:33_003])
    assert bool((out[:1001] == 7).all())
    assert bool((out[33_003:] == 7).all())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_computes_in_float32(dtype):
    P, D = Hadamard(D=50_000, d=300, seed=1), 50_000
    z, g = normal(300, dtype=dtype), normal(D, seed=1, dtype=dtype)
    base = normal(D, seed=2, dtype=dtype)
    assert P.matvec(z).dtype == dtype
    assert close(P.matvec(z), reference(P, z), dtype)
    assert close(P.matvec(z, base=base), base.double() + reference(P, z), dtype)
    assert P.rmatvec(g).dtype == torch.float32
    assert close(P.rmatvec(g), reference_pull(P, g), torch.float32)


@pytest.mark.parametrize(("out", "base"), [(torch.float64, torch.float32), (torch.float32, torch.bfloat16)])
def test_base_of_another_precision(out, base):
    P, z = Hadamard(D=30_000, d=100), normal(100, dtype=torch.float32)
    added, result = normal(30_000, dtype=base), torch.empty(30_000, dtype=out)
    P.matvec(z, out=result, base=added)
    assert close(result, added.double() + reference(P, z), torch.float32)


def test_out_may_be_base():
    P, z, theta = Hadamard(D=60_000, d=700), normal(700, dtype=torch.float32), normal(60_000, dtype=torch.float32)
    expected = P.matvec(z, base=theta)
    assert torch.equal(P.matvec(z, out=theta, base=theta), expected)


def test_bits_do_not_depend_on_the_number_of_threads():
    P, threads = Hadamard(D=1_500_000, d=200), torch.get_num_threads()
    z, g = normal(200, dtype=torch.float32), normal(P.D, dtype=torch.float32)
    results = []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append((P.matvec(z), P.rmatvec(g)))
    finally:
        torch.set_num_threads(threads)
    for lifted, pulled in results[1:]:
        assert torch.equal(lifted, results[0][0])
        assert torch.equal(pulled, results[0][1])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_golden_values(dtype):
    """P of a seed is fixed for good; its entries are whole numbers over n sqrt(D)."""
    P = Hadamard(D=1000, d=10, seed=7)
    entries = P.to_dense(dtype).double() * 16 * math.sqrt(1000)
    expected = torch.tensor(GOLDEN, dtype=torch.float64)
    assert torch.allclose(entries[[0, 1, 16, 767, 768, 999]], expected, rtol=0, atol=1e-3)


def test_golden_values_of_large_blocks():
    z = torch.zeros(5000)
    z[[0, 17, 4999]] = torch.tensor([1.0, 2.0, 4.0])
    x = Hadamard(D=100_000, d=5000, seed=-1).matvec(z) * 8192 * math.sqrt(100_000)
    assert x[[0, 1, 32_768, 99_999]].round().int().tolist() == GOLDEN_LARGE


def test_first_columns_stay_within_a_power_of_two():
    z = torch.cat([normal(33), torch.zeros(20, dtype=torch.float64)])
    assert torch.equal(Hadamard(D=500, d=33).matvec(z[:33]), Hadamard(D=500, d=53).matvec(z))


def test_seeds_differ():
    one, two = (Hadamard(D=500, d=33, seed=s).to_dense() for s in (0, 1))
    assert float((one * two).sum().abs()) < 5 * math.sqrt(33 * 33 / 500)


def test_z_of_wrong_scale_is_not_cropped():
    """A peer silently cropped z for tensors shorter than d: every coordinate moves every layer-sized range here."""
    P = Hadamard(D=2000, d=900)
    assert bool((P.to_dense()[1500:1540].abs().amax(dim=0) > 0).all())


def test_coordinates_whose_sum_overflows_are_finite():
    z = torch.tensor([3e38, 3e38])
    assert torch.equal(Hadamard(D=4, d=2).matvec(z / 4), Hadamard(D=4, d=2).matvec(z) / 4)
    with pytest.raises(RequestError, match="received 2 non-finite of 2"):
        Hadamard(D=4, d=2).matvec(torch.tensor([math.inf, -math.inf]))
