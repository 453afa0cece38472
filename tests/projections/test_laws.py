"""Every kind of projection against every law."""

from __future__ import annotations

import laws
import pytest
import torch
from cases import CASES, NAMES
from hypothesis import given, settings
from hypothesis import strategies as st

from idim.errors import RequestError
from idim.projections import KINDS, create, load

every_case = pytest.mark.parametrize("case", CASES, ids=NAMES)
few = settings(max_examples=12, deadline=None, derandomize=True, database=None)


@st.composite
def shapes(draw, most=300):
    D = draw(st.integers(1, most))
    return D, draw(st.integers(1, D))


seeds = st.integers(-(2**70), 2**70)


@every_case
@few
@given(shape=shapes(), seed=seeds)
def test_maps_of_any_size_obey_the_laws(case, shape, seed):
    P = case.make(*shape, seed)
    laws.linear(P)
    laws.adjoint(P)
    laws.dense_form(P)
    laws.agrees_with_reference(P, case)
    laws.base_and_out(P)
    laws.precisions_agree(P)
    laws.spec_is_all(P)
    if case.orthonormal(P):
        laws.orthonormal(P)


@every_case
@few
@given(shape=shapes(), seed=seeds, cuts=st.lists(st.integers(0, 10**6), max_size=5))
def test_rows_concatenate_wherever_they_are_cut(case, shape, seed, cuts):
    laws.rows_concatenate(case.make(*shape, seed), cuts)


@every_case
def test_maps_of_more_than_one_chunk_obey_the_laws(case):
    P = case.make(140_001, 20, 5)
    laws.adjoint(P)
    laws.agrees_with_reference(P, case)
    laws.threads_do_not_matter(P)
    laws.rows_concatenate(P, [3, 65_535, 65_540, 131_072])
    laws.base_and_out(P)


@every_case
def test_many_coordinates_obey_the_laws(case):
    P = case.make(*case.many, 5)
    laws.adjoint(P)
    laws.agrees_with_reference(P, case)
    laws.rows_concatenate(P, [1, 1000, 1001])


@every_case
@pytest.mark.parametrize("shape", [(45, 5), (64, 8)])
def test_columns_are_orthonormal_in_the_mean(case, shape):
    laws.isometry_in_the_mean(lambda seed: case.make(*shape, seed), case.seeds)


@every_case
def test_bad_input_is_refused_with_both_sizes(case):
    laws.refuses_bad_input(case.make(40, 3))


@every_case
@pytest.mark.parametrize(
    ("D", "d", "message"),
    [
        (10, 11, "d must be between 1 and D = 10; received d = 11"),
        (10, 0, "d must be between 1 and D = 10; received d = 0"),
        (0, 1, "D must be at least 1; received D = 0"),
    ],
)
def test_sizes_out_of_range_are_refused(case, D, d, message):
    with pytest.raises(RequestError, match=message):
        case.make(D, d)


@every_case
def test_the_seed_is_the_map(case):
    first, again, other = (case.make(1000, 10, seed).to_dense() for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@every_case
@few
@given(shape=shapes(), seed=seeds, more=st.integers(1, 100))
def test_more_coordinates_keep_the_first_columns_where_claimed(case, shape, seed, more):
    if not case.make().nested:
        pytest.skip("not claimed")
    laws.nested(lambda D, d: case.make(D, d, seed), *shape, more)


@every_case
def test_scipy_sees_the_same_operator(case):
    laws.scipy_operator(case.make(60, 7))


@every_case
def test_ten_constraints_need_ten_coordinates(case):
    """Sums over ten blocks of a hundred parameters: the matrix of constraints in z has full rank, well conditioned."""
    for seed in range(10):
        values = torch.linalg.svdvals(case.make(1000, 10, seed).to_dense().view(10, 100, 10).sum(1))
        assert not case.solves_toy or values[-1] > 1e-5 * values[0]


def test_the_table_holds_every_kind():
    not_linear = {"layerwise", "decoder"}  # these have tests of their own
    assert {name.partition(":")[0] for name in NAMES} | not_linear == set(KINDS)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hadamrd", "unknown projection 'hadamrd'; did you mean 'hadamard'"),
        ("hadamard:fast", "projection 'hadamard' takes no option; received 'fast'"),
        ("selector:3", "projection 'selector' takes no option; received '3'"),
        ("dense:gausian", "unknown law of 'dense' 'gausian'; did you mean 'gaussian'"),
        ("fastfood:glob", "unknown form of 'fastfood' 'glob'; did you mean 'global'"),
        ("sparse:many", "density in .* received 'many'"),
        ("sparse:0", "density must be in .* received 0.0"),
        ("sparse:nan", "density must be in .* received nan"),
        ("uniform:sign", "'signed' or 'unsigned'; received 'sign'"),
        ("layerwise:dens", "unknown projection 'dens'; did you mean 'dense'"),
    ],
)
def test_unknown_names_are_refused_with_a_suggestion(name, message):
    with pytest.raises(RequestError, match=message):
        create(name, D=10, d=3, seed=0, layers=(10,))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"kind": "densee", "version": 1}, "did you mean 'dense'"),
        ({"version": 1}, "unknown projection"),
        (
            {"kind": "dense", "version": 1, "D": 10, "d": 2, "rank": 3},
            "a spec of 'dense' must hold its fields; .* 'rank'",
        ),
        ({"kind": "dense", "version": 1, "D": 10}, "a spec of 'dense' must hold its fields; .* 'd'"),
    ],
)
def test_specs_of_something_else_are_refused(spec, message):
    with pytest.raises(RequestError, match=message):
        load(spec)
