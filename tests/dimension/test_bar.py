import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idim.dimension.bar import Bar
from idim.errors import RequestError


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("0.9", "fraction", 0.9),
        ("1", "fraction", 1.0),
        ("absolute:0.9", "absolute", 0.9),
        ("above-chance:0.5", "above-chance", 0.5),
        ("absolute:0.999999", "absolute", 0.999999),
    ],
)
def test_parses_what_it_prints(text: str, kind: str, value: float) -> None:
    bar = Bar.parse(text)
    assert (bar.kind, bar.value) == (kind, value)
    assert Bar.parse(str(bar)) == bar


@pytest.mark.parametrize("text", ["0", "-0.1", "1.01", "absolute:2", "above-chance:0", "nan", "inf"])
def test_refuses_a_value_outside_zero_to_one(text: str) -> None:
    with pytest.raises(RequestError, match=r"the bar must be in \(0, 1\]; received") as caught:
        Bar.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "high", "absolute:", "absolute:high", "0.9:absolute"])
def test_refuses_another_form_with_the_text_received(text: str) -> None:
    with pytest.raises(RequestError, match=r"received ''|received '.+'"):
        Bar.parse(text)


def test_unknown_kind_is_suggested() -> None:
    with pytest.raises(RequestError, match="did you mean 'absolute'"):
        Bar.parse("absolut:0.9")


def test_thresholds() -> None:
    assert Bar.parse("absolute:0.9").threshold(math.nan, math.nan) == 0.9
    assert Bar.parse("0.9").threshold(0.98, 0.1) == pytest.approx(0.882)
    assert Bar.parse("above-chance:0.9").threshold(0.98, 0.1) == pytest.approx(0.892)


@pytest.mark.parametrize("reference", [0.1, 0.05, math.nan])
@pytest.mark.parametrize("text", ["0.9", "above-chance:0.9"])
def test_a_reference_not_above_chance_is_said(text: str, reference: float) -> None:
    with pytest.raises(RequestError, match="needs a reference above chance; received reference"):
        Bar.parse(text).threshold(reference, 0.1)


def test_the_error_is_that_of_the_fraction_of_a_mean() -> None:
    assert Bar.parse("0.9").error(0.01, 4) == pytest.approx(0.9 * 0.01 / 2)
    assert Bar.parse("above-chance:0.5").error(0.01, 4) == pytest.approx(0.5 * 0.01 / 2)
    assert Bar.parse("absolute:0.9").error(0.01, 4) == 0
    assert Bar.parse("0.9").error(math.nan, 1) == 0


@given(
    value=st.floats(0.01, 1),
    chance=st.floats(0, 0.5),
    gain=st.floats(0.01, 0.5),
    kind=st.sampled_from(["fraction", "above-chance"]),
)
def test_a_relative_bar_is_never_above_its_reference(value: float, chance: float, gain: float, kind: str) -> None:
    bar = Bar(kind=kind, value=value)  # type: ignore[arg-type]
    threshold = bar.threshold(chance + gain, chance)
    assert threshold <= chance + gain + 1e-12
    assert kind == "fraction" or threshold > chance
