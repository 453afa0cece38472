import numba
import numpy as np
import pytest
import torch

from idim.kernels import bits, numba_bits

FAR = [0, 1, 31, 32, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**40 + 12345]


def mixed(x):
    for shift, factor in ((16, bits.MIX_A), (15, bits.MIX_B), (15, 1)):
        x = (x ^ (x >> shift)) * factor % 2**32
    return x


def plain_hash(key, n):
    """The formula of the module docstring in Python's integers."""
    low, high = n % 2**32, n >> 32
    first = mixed((low * bits.PHI + key[0]) % 2**32)
    return mixed((first + high * bits.HIGH + key[1]) % 2**32)


@numba.njit
def compiled_hash(key0, key1, low, high, out):
    for i in range(out.size):
        out[i] = numba_bits.hash32(key0, key1, low[i], high[i])


def test_hash_is_the_documented_formula():
    key = bits.stream_key(-7, "signs")
    expected = [plain_hash(key, n) for n in FAR]
    assert bits.hash32(key, torch.tensor(FAR)).tolist() == expected
    low, high = (np.array([f(n) for n in FAR], dtype=np.uint32) for f in (lambda n: n % 2**32, lambda n: n >> 32))
    out = np.empty(len(FAR), np.uint32)
    compiled_hash(np.uint32(key[0]), np.uint32(key[1]), low, high, out)
    assert out.tolist() == expected


def test_golden_numbers():
    key = bits.stream_key(0, "hadamard/1")
    assert key == (305599756, 397898524)
    assert bits.hash32(key, torch.arange(4)).tolist() == [2348282452, 3479105063, 2080371094, 1223068219]
    assert bits.signs(key, torch.arange(16)).int().tolist() == [1, 1, -1, 1, -1, 1, -1, 1, 1, -1, 1, 1, -1, -1, -1, -1]


@pytest.mark.parametrize("other", [(0, "b"), (1, "a"), (-1, "a"), (2**70, "a")])
def test_streams_share_no_numbers(other):
    index = torch.arange(10_000)
    a, b = bits.hash32(bits.stream_key(0, "a"), index), bits.hash32(bits.stream_key(*other), index)
    assert int((a == b).sum()) <= 1
    signs_a, signs_b = bits.signs(bits.stream_key(0, "a"), index), bits.signs(bits.stream_key(*other), index)
    assert abs(float(signs_a @ signs_b)) < 5 * 100


def test_every_bit_is_balanced_and_uncorrelated():
    words = bits.hash32(bits.stream_key(3, "x"), torch.arange(40_000))
    plus = 1.0 - 2 * ((words[:, None] >> torch.arange(32)) & 1)
    gram = plus.T @ plus / 200  # standard deviation 1 off the diagonal
    assert float(plus.sum(0).abs().max()) / 200 < 5
    assert float((gram - torch.diag(gram.diag())).abs().max()) < 5
    assert float((plus[1:] * plus[:-1]).sum(0).abs().max()) / 200 < 5


def test_uniforms_lie_inside_the_interval_evenly():
    x = bits.uniforms(bits.stream_key(3, "x"), torch.arange(100_000))
    assert 0 < float(x.min()) < 1e-3
    assert 1 - 1e-3 < float(x.max()) < 1
    counts = torch.histc(x, 50, 0, 1)
    assert float(((counts - 2000) ** 2 / 2000).sum()) < 90  # chi-squared, 49 degrees of freedom


def test_gaussians_are_standard_normal():
    table = bits.normal_quantiles()
    assert torch.equal(table, -table.flip(0))
    assert float(table.double().square().mean()) == pytest.approx(1, abs=1e-6)
    x = bits.gaussians(bits.stream_key(5, "x"), torch.arange(200_000)).double()
    assert float(x.mean()) == pytest.approx(0, abs=5 / 200_000**0.5)
    assert float((x**4).mean()) == pytest.approx(3, abs=0.1)
