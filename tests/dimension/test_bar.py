import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idim.dimension.bar import Bar, words
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


# -- perplexity: lower is better, and the score is minus its logarithm ---------------------------------


def perplexity(text: str) -> Bar:
    return Bar.parse(text, metric="perplexity")


def test_thresholds_of_perplexity_are_those_of_the_words() -> None:
    reference, untuned = -math.log(20.0), -math.log(80.0)
    assert perplexity("absolute:30").threshold(math.nan, math.nan) == pytest.approx(-math.log(30))
    assert perplexity("0.9").threshold(reference, untuned) == pytest.approx(-math.log(20 / 0.9))
    assert perplexity("above-chance:0.5").threshold(reference, untuned) == pytest.approx(-math.log(40.0))


@pytest.mark.parametrize("text", ["absolute:1", "absolute:0.9", "absolute:-3", "absolute:inf", "absolute:nan"])
def test_an_absolute_perplexity_is_above_one(text: str) -> None:
    with pytest.raises(RequestError, match="an absolute bar of perplexity must be above 1; received"):
        perplexity(text)


def test_fractions_of_perplexity_are_fractions() -> None:
    with pytest.raises(RequestError, match=r"the bar must be in \(0, 1\]; received 30"):
        perplexity("30")


@pytest.mark.parametrize("text", ["0.9", "above-chance:0.9"])
def test_a_reference_that_learned_nothing_is_said_in_perplexities(text: str) -> None:
    words = f"a bar of {text} needs a reference below the untuned perplexity; received reference 21, .* 20: train"
    with pytest.raises(RequestError, match=words):
        perplexity(text).threshold(-math.log(21), -math.log(20))


def test_the_error_is_that_of_the_threshold() -> None:
    assert perplexity("0.9").error(0.01, 4) == pytest.approx(0.01 / 2)
    assert perplexity("above-chance:0.5").error(0.01, 4) == pytest.approx(0.5 * 0.01 / 2)
    assert perplexity("absolute:30").error(0.01, 4) == 0


@pytest.mark.parametrize("text", ["absolute:30", "0.9", "above-chance:0.9"])
def test_a_bar_is_reported_and_said_as_a_perplexity(text: str) -> None:
    bar = perplexity(text)
    report = bar.report(bar.threshold(-math.log(20), -math.log(80)))
    assert report["perplexity"] == pytest.approx(math.exp(-report["value"]))
    assert words(report, "perplexity").startswith(f"perplexity at most {report['perplexity']:.4g}")
    assert "perplexity" not in Bar.parse("0.9").report(0.5)


@given(value=st.floats(0.01, 1), fall=st.floats(0.01, 5), kind=st.sampled_from(["fraction", "above-chance"]))
def test_a_relative_bar_of_perplexity_is_never_better_than_its_reference(value: float, fall: float, kind: str) -> None:
    bar = Bar(kind=kind, value=value, metric="perplexity")  # type: ignore[arg-type]
    assert bar.threshold(-3.0, -3.0 - fall) <= -3.0
