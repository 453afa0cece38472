"""What the entries of each kind are, and that they follow the law its module states."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import same
from scipy import stats

from idim.projections import Dense, Fastfood, Kronecker, Sparse, Uniform
from idim.projections.fastfood import chi_quantiles, permutations
from idim.projections.kronecker import factor
from idim.projections.sparse import poisson_thresholds

RARE = 1e-6  # p-value below which a law is rejected


def test_dense_signs_have_one_size_and_no_bias():
    entries = Dense(D=2000, d=40, seed=1).to_dense() * math.sqrt(2000)
    same(entries.abs(), torch.ones(2000, 40))
    plus = int((entries > 0).sum())
    assert stats.binomtest(plus, entries.numel()).pvalue > RARE
    # neighbours share a word or a row, and must not know of each other
    for a, b in ((entries[:, :-1], entries[:, 1:]), (entries[:-1], entries[1:])):
        assert abs(float((a * b).mean())) < 5 / math.sqrt(a.numel())


def test_dense_gaussians_are_normal():
    entries = Dense(D=1000, d=30, law="gaussian", seed=1).to_dense() * math.sqrt(1000)
    assert stats.kstest(entries.flatten().numpy(), "norm").pvalue > RARE


@pytest.mark.parametrize("density", [None, 0.004, 0.05, 0.5])
def test_sparse_has_so_many_entries_of_either_sign_everywhere(density):
    D, d = 9000, 50
    P = Sparse(D=D, d=d, seed=3, density=density)
    s = density or 1 / math.sqrt(D)
    entries = (P.to_dense() * math.sqrt(D * s)).round(decimals=9)
    assert torch.equal(entries, entries.round())
    # a sum of Poisson(s) signs has the Skellam law of two parts s / 2
    for value in (-1, 0, 1, 2):
        share = float(stats.skellam.pmf(value, s / 2, s / 2))
        found = int((entries == value).sum())
        assert abs(found - share * D * d) <= 5 * math.sqrt(share * D * d * (1 - share)) + 1
    for totals in (entries.abs().sum(0), entries.abs().view(90, -1).sum(1)):
        assert stats.chisquare(totals.numpy()).pvalue > RARE or density == 0.5


@given(mean=st.floats(1e-3, 5000))
@settings(max_examples=30, deadline=None, derandomize=True, database=None)
def test_poisson_thresholds_are_the_distribution_function(mean):
    thresholds = poisson_thresholds.__wrapped__(mean)
    expected = stats.poisson.cdf(range(len(thresholds)), mean)
    assert torch.allclose(thresholds.double() / 2**32, torch.as_tensor(expected), atol=1e-9, rtol=0)


@pytest.mark.parametrize(("D", "d"), [(1000, 7), (1003, 1000), (64, 64), (70_000, 333)])
@pytest.mark.parametrize("signed", [True, False])
def test_uniform_shares_rows_out_evenly(D, d, signed):
    P = Uniform(D=D, d=d, seed=5, signed=signed)
    entries = P.matvec(torch.ones(d, dtype=torch.float64))
    sizes = P.matvec(1.0 + torch.arange(d, dtype=torch.float64)) / entries  # number of the part, plus one
    counts = torch.bincount(sizes.round().long() - 1, minlength=d)
    assert int(counts.max() - counts.min()) <= 1
    same(entries.abs(), counts[sizes.round().long() - 1].double().rsqrt())
    minus = int((entries < 0).sum())
    assert minus == 0 if not signed else stats.binomtest(minus, D).pvalue > RARE


def test_kronecker_is_the_product_of_orthonormal_factors():
    P = Kronecker(D=200, d=12, seed=4)
    first, second = (
        factor(15, 4, 4, "kronecker/first", torch.float64),
        factor(14, 3, 4, "kronecker/second", torch.float64),
    )
    same(first @ first.T, torch.eye(4))
    same(second @ second.T, torch.eye(3))
    same(P.to_dense(), torch.kron(first.T, second.T)[:200, :12] * math.sqrt(15 * 14 / 200))


def test_a_square_kronecker_factor_is_still_orthonormal():
    q = factor(60, 60, 0, "test", torch.float64)
    same(q @ q.T, torch.eye(60))


@pytest.mark.parametrize("form", ["blocks", "global"])
def test_fastfood_entries_are_nearly_normal(form):
    entries = Fastfood(D=4096, d=256, form=form, seed=2).to_dense().flatten() * 64
    assert abs(float(entries.square().mean()) - 1) < 0.02
    assert abs(float(entries.pow(4).mean()) - 3) < 0.15


def test_fastfood_rows_are_as_long_as_gaussian_ones_in_blocks_and_all_alike_in_the_global_form():
    D = d = 1024
    squares = Fastfood(D=D, d=d, seed=2).to_dense().square().sum(1) * D
    assert stats.kstest(squares.numpy(), stats.chi2(d).cdf).pvalue > RARE
    same(Fastfood(D=D, d=d, seed=2, form="global").to_dense().square().sum(1), torch.ones(D), 1e-6)


@pytest.mark.parametrize("n", [16, 64, 4096])
def test_chi_quantiles_have_the_moments_of_the_law(n):
    radii = chi_quantiles(n).double()
    assert float(radii.square().mean()) == pytest.approx(n, rel=1e-6)
    assert float(radii.mean()) == pytest.approx(stats.chi(n).mean(), rel=1e-4)


@given(bits=st.integers(0, 12), seed=st.integers(0, 2**32))
@settings(max_examples=30, deadline=None, derandomize=True, database=None)
def test_the_permutations_of_fastfood_permute_and_differ(bits, seed):
    n = 1 << bits
    places = permutations((seed, seed ^ 12345), torch.arange(4).unsqueeze(1), n)
    assert torch.equal(places.sort(dim=1).values, torch.arange(n).expand(4, n))
    assert n < 64 or not torch.equal(places[0], places[1])
