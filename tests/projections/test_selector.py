"""Columns of the identity, random or given."""

from __future__ import annotations

import pytest
import torch
from laws import adjoint, base_and_out, normal, orthonormal, precisions_agree, rows_concatenate, spec_is_all

from idim.errors import RequestError
from idim.projections import Selector


def test_ranges_select_their_rows_in_order():
    P = Selector(D=20, d=5, ranges=((0, 2), (7, 10)))
    assert P.to_dense().nonzero().tolist() == [[0, 0], [1, 1], [7, 2], [8, 3], [9, 4]]
    for law in (adjoint, base_and_out, orthonormal, precisions_agree, spec_is_all):
        law(P)
    rows_concatenate(P, [1, 7, 8, 15])


def test_parameters_outside_are_left_alone_bit_for_bit():
    P = Selector(D=1000, d=10, ranges=((990, 1000),))
    base = normal(1000, dtype=torch.bfloat16)
    assert torch.equal(P.matvec(normal(10), base=base)[:990], base[:990])


def test_all_rows_can_be_selected():
    A = Selector(D=30, d=30, seed=2).to_dense()
    assert torch.equal(A.sum(0), torch.ones(30))
    assert torch.equal(A.sum(1), torch.ones(30))


def test_random_rows_are_uniform():
    counts = torch.zeros(10)
    for seed in range(2000):
        counts += Selector(D=10, d=3, seed=seed).to_dense().sum(1)
    # 600 expected a row, standard deviation below 20.5
    assert bool(((counts - 600).abs() < 5 * 20.5).all())


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        (((0, 2),), "ranges must select d = 3 rows; they select 2"),
        (((5, 2),), "ranges must increase"),
        (((4, 6), (5, 6)), "ranges must increase"),
        (((8, 11),), r"ranges must increase within \[0, D = 10\]"),
    ],
)
def test_ranges_that_do_not_fit_are_refused(ranges, message):
    with pytest.raises(RequestError, match=message):
        Selector(D=10, d=3, ranges=ranges)
