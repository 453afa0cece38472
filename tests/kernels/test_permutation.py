"""The permutation that is evaluated and not stored."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from idim.kernels.permutation import permutation, permute_range


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(size=st.integers(1, 3000), seed=st.integers(), start=st.integers(0, 2999))
def test_it_permutes_and_the_compiled_path_is_the_same(size, seed, start):
    p = permutation(size, seed, "test")
    images = p(torch.arange(size))
    assert torch.equal(images.sort().values, torch.arange(size))
    start %= size
    compiled = np.empty(size - start, np.int64)
    permute_range(start, compiled, size, p.left, p.right, p.tables.numpy().astype(np.uint32))
    np.testing.assert_array_equal(compiled, images[start:].numpy())


def test_two_numbers_go_anywhere_alike():
    size, draws = 40, 3900
    counts = torch.zeros(size, size)
    for seed in range(draws):
        first, second = permutation.__wrapped__(size, seed, "test")(torch.tensor([0, 1])).tolist()
        counts[first, second] += 1
    assert not counts.diagonal().any()
    expected = draws / (size * (size - 1))
    statistic = float(((counts - expected).square() / expected).sum()) - size * expected
    # chi-squared with 1559 degrees of freedom: mean 1559, standard deviation 56
    assert abs(statistic - 1559) < 4 * 56


def test_streams_and_seeds_are_apart():
    index = torch.arange(1000)
    one = permutation(1000, 0, "a")(index)
    assert not torch.equal(one, permutation(1000, 0, "b")(index))
    assert not torch.equal(one, permutation(1000, 1, "a")(index))
    # fixed points of a random permutation number one in the mean
    assert int((one == index).sum()) < 10


def test_neighbours_are_sent_apart():
    images = permutation(10_000, 3, "a")(torch.arange(10_000)).double()
    steps = (images[1:] - images[:-1]).abs()
    # the mean distance of two random numbers below n is n / 3, with a standard error of 24 here
    assert abs(float(steps.mean()) - 10_000 / 3) < 120
