import numba
import numpy as np
import pytest
import torch
from scipy.linalg import hadamard

from idim.kernels import bits, tiles
from idim.kernels.vectors import LANES, LOW, PITCH


@numba.njit
def low_tile(x, size, high):
    tiles.plain_low(x, size, high)


@numba.njit
def turned_tile(x, words, size, high, leap, low):
    tiles.turn_high(x, words, size, high, leap, low)


@numba.njit
def mixed_vector(x, apart):
    tiles.mix(x, 16, apart)


@numba.njit
def drawn_words(words, starts, key0, key1, high):
    tiles.draw(words, starts, key0, key1, high)


def block(highs, seed=0):
    return np.random.default_rng(seed).standard_normal(highs * PITCH).astype(np.float32)


def positions(x):
    """View a block as [high, low, lane], its padding last among the lows."""
    return x.reshape(-1, LOW + 1, LANES)


@pytest.mark.parametrize("size", range(6))
def test_low_tile_is_a_transform_of_adjacent_vectors(size):
    x, n = block(3), 1 << size
    expected = positions(x).copy()
    expected[1, :n] = np.einsum("ij,jl->il", hadamard(n), expected[1, :n])
    low_tile(x, size, 1)
    np.testing.assert_allclose(positions(x), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", range(6))
def test_turn_is_a_transform_signs_and_a_transform(size):
    n, leap, low = 1 << size, 2, 13
    x, words = block(2 * n + 1), np.random.default_rng(1).integers(0, 2**32, (2 * n + 1) * LANES, dtype=np.uint32)
    expected, tile = positions(x).copy(), slice(1, 2 * n + 1, leap)
    sign = 1.0 - 2 * (words.reshape(-1, LANES)[tile] >> np.uint32(low) & 1)
    expected[tile, low] = hadamard(n) @ (sign * (hadamard(n) @ expected[tile, low]))
    turned_tile(x, words, size, 1, leap, low)
    np.testing.assert_allclose(positions(x), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("apart", [1, 2, 4, 8])
def test_mix_transforms_within_a_vector(apart):
    x = block(1)[:48]
    expected = x.copy()
    expected[16:32] = np.kron(hadamard(16 // apart), np.eye(apart)) @ x[16:32]
    mixed_vector(x, apart)
    np.testing.assert_allclose(x, expected, rtol=0, atol=1e-5)


def test_drawn_words_are_the_hash_across_the_carry():
    first = 2**32 - 5 + np.arange(LANES, dtype=np.uint64)
    starts = np.concatenate([first % 2**32, first // 2**32]).astype(np.uint32)
    words, key = np.zeros(10 * LANES, np.uint32), bits.stream_key(1, "x")
    drawn_words(words, starts, np.uint32(key[0]), np.uint32(key[1]), 7)
    expected = bits.hash32(key, torch.from_numpy((first + 7).astype(np.int64)))
    assert words[7 * LANES : 8 * LANES].tolist() == expected.tolist()
