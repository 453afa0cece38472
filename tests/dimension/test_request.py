from __future__ import annotations

from pathlib import Path

import pytest

from idim.dimension import rates
from idim.dimension.request import MeasureRequest
from idim.errors import RequestError


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seeds": 0}, "seeds must be at least 1; received 0"),
        ({"reference_seeds": 0}, "reference_seeds must be at least 1; received 0"),
        ({"budget": 0}, "budget must be at least 1; received 0"),
        ({"steps": 0}, "steps must be at least 1; received 0"),
        ({"workers": -1}, "workers must be at least 1; received -1"),
        ({"d_max": 0}, "d_max must be at least 1; received 0"),
        ({"width": 0.0}, "width must be between 0 and 10 (a fraction of d_int); received 0.0"),
        ({"lr": "fast"}, "lr must be 'auto', a positive number, or one such as 2.4/sqrt(d); received 'fast'"),
        ({"lr": "-1"}, "lr must be 'auto', a positive number, or one such as 2.4/sqrt(d); received '-1'"),
        ({"lr": "nan"}, "lr must be 'auto', a positive number, or one such as 2.4/sqrt(d); received 'nan'"),
        ({"lr": "x/sqrt(d)"}, "lr must be 'auto', a positive number, or one such as 2.4/sqrt(d); received 'x/sqrt(d)'"),
        ({"dims": "10,x"}, "dims must be 'auto' or integers such as 10,100,1000; received '10,x'"),
        ({"dims": ""}, "dims must be 'auto' or integers such as 10,100,1000; received ''"),
        ({"dims": "0,5"}, "d must be at least 1; received d = 0 in dims '0,5'"),
    ],
)
def test_bad_requests_name_the_constraint_and_the_value(options: dict[str, object], said: str) -> None:
    with pytest.raises(RequestError) as caught:
        MeasureRequest(**options)  # type: ignore[arg-type]
    assert str(caught.value) == said


def test_dims_are_sorted_and_unique() -> None:
    assert MeasureRequest(dims="100,10,100").dimensions == (10, 100)
    assert MeasureRequest().dimensions is None


def test_learning_rate_is_a_rule_or_tuned() -> None:
    assert MeasureRequest(lr="1e-3").learning_rate == (1e-3, 0.0)
    assert MeasureRequest(lr="2.4/sqrt(d)").learning_rate == (2.4, 0.5)
    assert rates.given(2.4, 0.5).lr(100) == pytest.approx(0.24)
    assert rates.given(1e-3, 0.0).lr(100) == 1e-3


def test_folders_may_be_text() -> None:
    request = MeasureRequest(out="a", store="b/c", data=Path("d"))  # type: ignore[arg-type]
    assert (request.out, request.store, request.data) == (Path("a"), Path("b/c"), Path("d"))


def test_workers_default_to_the_cores() -> None:
    assert MeasureRequest(workers=3).worker_count == 3
    assert MeasureRequest().worker_count >= 1
