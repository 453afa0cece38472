"""Spectra against full decompositions, in the bounds they state."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from idim.errors import RequestError
from idim.spectral.decomposition.decompose import of_factors, randomized, singular_values
from idim.spectral.pairing.delta import Factors


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def with_spectrum(values, m, n, seed=0):
    k = len(values)
    left, right = torch.linalg.qr(normal(m, k, seed=seed))[0], torch.linalg.qr(normal(n, k, seed=seed + 1))[0]
    return (left * torch.as_tensor(values, dtype=torch.float64)) @ right.T


def test_the_gram_matrix_is_used_where_it_is_enough_and_not_below():
    matrix = with_spectrum(np.geomspace(1, 1e-12, 30), 80, 40)
    exact = torch.linalg.svdvals(matrix)
    quick = singular_values(matrix, floor=1e-4)
    full = singular_values(matrix, floor=1e-9)
    assert (quick.method, full.method, singular_values(matrix).method) == ("gram", "svdvals", "svdvals")
    assert torch.allclose(full.values, exact, atol=full.error_bound, rtol=0)
    assert 1e-9 < quick.error_bound < 1e-6
    assert float((quick.values - exact).abs().max()) <= quick.error_bound


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.floats(1e-6, 1e6), st.integers(0, 10**6))
def test_values_are_within_their_bound(m, n, scale, seed):
    matrix = scale * normal(m, n, seed=seed)
    exact = torch.linalg.svdvals(matrix)
    for floor in (None, scale * 1e-5):
        found = singular_values(matrix, floor=floor)
        assert found.values.shape == (min(m, n),)
        assert float((found.values - exact).abs().max()) <= found.error_bound + 1e-15 * scale
        assert found.energy == pytest.approx(float(matrix.square().sum()))


def test_vectors_rebuild_the_matrix():
    matrix = normal(12, 7)
    found = singular_values(matrix, vectors=True)
    assert torch.allclose((found.left * found.values) @ found.right.T, matrix)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 50), st.floats(1e-4, 1e4), st.integers(0, 10**6))
def test_factors_have_the_spectrum_of_their_product(m, n, r, scale, seed):
    factors = Factors(up=normal(m, r, seed=seed), down=normal(r, n, seed=seed + 1), scale=scale)
    found = of_factors(factors, vectors=True)
    exact = torch.linalg.svdvals(factors.dense())
    k = len(found.values)
    assert k == min(m, n, r)
    assert float((found.values - exact[:k]).abs().max()) <= 1e-5 * float(exact[0])
    assert float((found.values - exact[:k]).abs().max()) <= found.error_bound + 1e-14 * float(exact[0])
    assert torch.allclose((found.left * found.values) @ found.right.T, factors.dense(), atol=1e-9 * scale)


def test_the_sign_of_the_scale_does_not_matter_and_zero_is_zero():
    up, down = normal(9, 3), normal(3, 8)
    positive, negative = (of_factors(Factors(up=up, down=down, scale=s)).values for s in (2.0, -2.0))
    assert torch.allclose(positive, negative)
    assert float(of_factors(Factors(up=torch.zeros(9, 3), down=down, scale=2.0)).values.abs().max()) == 0


@pytest.mark.parametrize("shape", [(300, 120), (120, 300)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_randomized_values_are_within_the_stated_bound(shape, dtype):
    matrix = with_spectrum(np.geomspace(1, 1e-3, 120), *shape).to(dtype)
    exact = torch.linalg.svdvals(matrix.double())
    found = randomized(matrix, 20, seed=1, vectors=True)
    assert not found.complete
    assert found.energy == pytest.approx(float(matrix.double().square().sum()), rel=1e-6)
    assert float((found.values - exact[:20]).abs().max()) <= found.error_bound
    assert found.error_bound < 10 * float(exact[20])  # or it would say nothing
    assert found.left.shape == (shape[0], 20)
    residual = matrix.double() @ found.right[:, 0].double() - found.values[0] * found.left[:, 0].double()
    assert float(residual.norm()) < 2 * found.error_bound


def test_randomized_is_a_function_of_its_seed():
    matrix = normal(60, 50)
    one, same, other = (randomized(matrix, 5, seed=s).values for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("bad", [torch.zeros(0, 3), torch.zeros(3), torch.tensor([[float("nan")]])])
def test_what_has_no_spectrum_is_refused(bad):
    for call in (singular_values, lambda x: randomized(x, 1)):
        with pytest.raises(RequestError):
            call(bad)


def test_k_must_fit():
    with pytest.raises(RequestError, match=r"k must be from 1 to min\(m, n\) = 3; received 4"):
        randomized(normal(3, 5), 4)
