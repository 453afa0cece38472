"""Bounds on the risk: against many digits, by simulation, and what they must do when an argument grows."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from idim.errors import RequestError
from idim.theory.bounds import Bounds, bounds, kl, kl_inverse, rate

SHARES = st.floats(0, 1)
PRICES = st.floats(1e-6, 5)


def exact_kl(q: float, p: mpmath.mpf) -> mpmath.mpf:
    """Return the divergence of two coins to 50 digits."""
    terms = [(mpmath.mpf(q), p), (1 - mpmath.mpf(q), 1 - p)]
    return mpmath.fsum(a * mpmath.log(a / b) for a, b in terms if a)


@pytest.mark.parametrize("q", [0.0, 1e-4, 0.03, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("budget", [1e-5, 0.01, 0.3, 3.0])
def test_the_inverse_is_a_root_to_fifty_digits(q: float, budget: float) -> None:
    found = kl_inverse(q, budget)
    with mpmath.workdps(50):
        if found == 1.0:  # the root is nearer to 1 than any float
            assert exact_kl(q, 1 - mpmath.mpf(2) ** -53) <= budget
            return
        slope = (1 - mpmath.mpf(q)) / (1 - mpmath.mpf(found)) - mpmath.mpf(q) / mpmath.mpf(found)
        away = (exact_kl(q, mpmath.mpf(found)) - budget) / slope  # one step of Newton to the root
        assert abs(away) < 1e-12 * (1 - found) + 1e-14


@given(st.floats(0, 20))
def test_without_errors_the_bound_has_a_closed_form(budget: float) -> None:
    assert kl_inverse(0.0, budget) == pytest.approx(-math.expm1(-budget), abs=1e-15)


def test_a_coin_that_always_errs_stays_there() -> None:
    assert kl_inverse(1.0, 0.1) == 1.0
    assert kl(0.3, 0.3) == 0.0
    assert kl(0.3, 1.0) == math.inf


@given(SHARES, PRICES)
def test_the_inverse_is_never_below_and_meets_the_budget(q: float, budget: float) -> None:
    p = kl_inverse(q, budget)
    assert q <= p <= 1
    if q < p < 1 - 1e-9:  # nearer to 1 the next float is another divergence
        assert kl(q, p) == pytest.approx(budget, rel=1e-6, abs=1e-9)


def all_of(found: Bounds) -> list[float]:
    return [found.kl, found.pac_bayes, found.hoeffding]


@given(SHARES, st.integers(1, 10**6), st.floats(0, 1e5), st.floats(1e-6, 0.5))
def test_the_forms_are_ordered(q: float, m: int, bits: float, delta: float) -> None:
    found = bounds(q, m=m, bits=bits, delta=delta)
    assert found.kl <= found.pac_bayes + 1e-12
    assert found.kl <= found.hoeffding + 1e-9  # Pinsker
    assert all(q - 1e-15 <= value <= 1 for value in all_of(found))


@given(SHARES, st.integers(1, 10**6), st.floats(0, 1e5), st.floats(1e-6, 0.5), st.floats(1.001, 100))
def test_more_rows_help_and_more_bits_or_certainty_cost(q: float, m: int, bits: float, delta: float, by: float) -> None:
    here = all_of(bounds(q, m=m, bits=bits, delta=delta))
    rows = all_of(bounds(q, m=math.ceil(m * by), bits=bits, delta=delta))
    longer = all_of(bounds(q, m=m, bits=bits * by + 1, delta=delta))
    surer = all_of(bounds(q, m=m, bits=bits, delta=delta / by))
    for i, value in enumerate(here):
        if i != 1 or m > 100:  # the logarithm of m in Maurer's form rises at first
            assert rows[i] <= value + 1e-12
        assert value <= longer[i] + 1e-12
        assert value <= surer[i] + 1e-12


CLASS = 64  # hypotheses of the simulation
DRAWS, ROWS, DELTA = 4000, 50, 0.2


def failures(bits: np.ndarray, risks: np.ndarray, form: str) -> float:
    """Return how often some hypothesis has a risk above its bound, over draws of independent rows."""
    draw = np.random.default_rng(0)
    table = [
        [getattr(bounds(k / ROWS, m=ROWS, bits=float(b), delta=DELTA), form) for k in range(ROWS + 1)] for b in bits
    ]
    counts = draw.binomial(ROWS, risks, size=(DRAWS, CLASS))
    promised = np.array(table)[np.arange(CLASS), counts]
    return float((promised < risks).any(axis=1).mean())


@pytest.mark.parametrize("form", ["kl", "pac_bayes", "hoeffding"])
@pytest.mark.parametrize("even", [True, False])
def test_all_hypotheses_are_covered_at_once(form: str, even: bool) -> None:
    risks = np.linspace(0.02, 0.6, CLASS)
    bits = np.full(CLASS, math.log2(CLASS)) if even else np.arange(1, CLASS + 1).astype(float)
    assert (0.5**bits).sum() <= 1
    assert failures(bits, risks, form) <= DELTA


@pytest.mark.parametrize("form", ["kl", "hoeffding"])
def test_without_paying_for_the_choice_they_are_not(form: str) -> None:
    assert failures(np.zeros(CLASS), np.linspace(0.02, 0.6, CLASS), form) > 2 * DELTA


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"empirical": 1.1}, "received 1.1"),
        ({"m": 0}, "at least one row"),
        ({"bits": -1.0}, "received 0.1, 10 and -1"),
        ({"bits": math.inf}, "finite number of bits"),
        ({"delta": 0.0}, "in (0, 1); received 0"),
        ({"delta": 1.0}, "in (0, 1); received 1"),
    ],
)
def test_arguments_out_of_range(changes: dict[str, float], said: str) -> None:
    arguments = {"empirical": 0.1, "m": 10, "bits": 5.0, "delta": 0.05} | changes
    with pytest.raises(RequestError) as refusal:
        bounds(arguments.pop("empirical"), **arguments)  # type: ignore[arg-type]
    assert said in str(refusal.value)


def test_the_rate() -> None:
    assert rate(550, 55_000) == pytest.approx(0.1)
