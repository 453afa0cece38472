"""What one key of a sweep may hold."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idim.errors import RequestError
from idim.runs.sweeps import values as v
from idim.runs.sweeps.document import Entry


def read(value: Any, reader: v.Read = v.whole) -> tuple[Any, ...]:
    return v.values(Entry(value, "a.yaml, line 3"), reader)


def refused(value: Any, reader: v.Read = v.whole) -> str:
    with pytest.raises(RequestError) as caught:
        read(value, reader)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("a.yaml, line 3: ")
    return str(caught.value)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (7, (7,)),
        ([3, 1, 3], (3, 1)),
        ({"range": 4}, (0, 1, 2, 3)),
        ({"range": [2, 5]}, (2, 3, 4)),
        ({"range": [5, -1, -2]}, (5, 3, 1)),
        ({"log": [10, 1000, 3]}, (10, 100, 1000)),
        ({"log": [1000, 10, 3]}, (1000, 100, 10)),
        ({"log": [1, 4, 9]}, (1, 2, 3, 4)),
        ({"log": [7, 7, 1]}, (7,)),
        ([1, {"log": [10, 1000, 3]}, {"range": [2, 4]}], (1, 10, 100, 1000, 2, 3)),
        ("1e3", (1000,)),
        (-3, (-3,)),
        (10**40, (10**40,)),
    ],
)
def test_forms(value: Any, found: tuple[int, ...]) -> None:
    assert read(value) == found


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "at least one value; received []"),
        ({"range": 0}, "at least one value"),
        ({"range": [5, 2]}, "at least one value"),
        ({"range": [0, 5, 0]}, "received [0, 5, 0]"),
        ({"range": 1.5}, "received 1.5"),
        ({"range": [0, 10**9]}, "at most 1,000,000 values"),
        ({"range": [0, 10**30]}, "at most 1,000,000 values"),
        ({"log": [10, 1000]}, "received [10, 1000]"),
        ({"log": [0, 10, 3]}, "received [0, 10, 3]"),
        ({"log": [1, 10, 1]}, "received [1, 10, 1]"),
        ({"log": [1, 10, 10**9]}, "at most 1,000,000 values"),
        ({"log": ["1e-300", "1e300", 3]}, "received"),
        ({"lgo": [1, 10, 3]}, "unknown form of values 'lgo'; did you mean 'log'?"),
        ({"log": [1, 2, 2], "range": 3}, "values are {range: ...} or {log: ...}"),
        ([[1, 2]], "received the list [1, 2]"),
        (1.5, "must be a whole number; received 1.5"),
        (True, "must be a whole number; received True"),
        ("many", "received 'many'"),
        (None, "received None"),
    ],
)
def test_what_is_no_value(value: Any, said: str) -> None:
    assert said in refused(value)


def test_numbers_rates_and_words() -> None:
    assert read(["1e-3", 0.5, 2], v.number) == (0.001, 0.5, 2.0)
    assert "finite number; received 'nan'" in refused("nan", v.number)
    assert "finite number; received True" in refused(True, v.number)
    rates = read(["2.4/sqrt(d)", "1e-3", 0.1], v.rate)
    assert rates == (v.Rate(2.4, 0.5), v.Rate(1e-3, 0.0), v.Rate(0.1, 0.0))
    assert rates[0].at(144) == 2.4 * 144**-0.5
    assert rates[1].at(None) == rates[1].at(10) == 1e-3
    with pytest.raises(RequestError, match=r"must be a number; received 2.4/sqrt\(d\)"):
        rates[0].at(None)
    for wrong in ("2/sqrt(D)", "fast", None, [[]], {"range": 2, "log": 1}):
        assert "received" in refused(wrong, v.rate)
    assert read([True, False], v.truth) == (True, False)
    assert "true or false; received 1" in refused(1, v.truth)
    assert "must be a word; received 3" in refused(3, v.text)
    assert read([None, 3], v.optional(v.whole)) == (None, 3)


def test_a_value_that_is_long_written_out_is_told_in_short() -> None:
    """Nine levels of nine aliases each are small in a file and 387 million words when written out."""
    value: Any = "x"
    for _ in range(9):
        value = [value] * 9
    assert len(refused(value)) < 300


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(2, 200))
def test_a_series_is_ordered_within_its_ends(first: int, last: int, count: int) -> None:
    found = read({"log": [first, last, count]})
    assert found[0] == first
    assert found[-1] == last
    assert list(found) == sorted(found, reverse=first > last)
    assert len(found) == len(set(found)) <= count
    exact = [first * (last / first) ** (i / (count - 1)) for i in range(count)]
    assert all(min(abs(term - value) for term in exact) <= 0.5 + 1e-6 for value in found)


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 50))
def test_a_series_of_numbers_has_one_ratio(first: float, last: float, count: int) -> None:
    found = [float(x) for x in v._geometric(first, last, count)]
    ratio = (last / first) ** (1 / (count - 1))
    assert all(math.isclose(b / a, ratio, rel_tol=1e-9) for a, b in itertools.pairwise(found))
