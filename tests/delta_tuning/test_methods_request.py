"""Which methods a request means, and what it refuses before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from idim import methods
from idim.delta_tuning.chosen import chosen, combinations, named, split
from idim.delta_tuning.request import MethodsRequest
from idim.errors import RequestError


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seeds": 0}, "seeds must be between 1"),
        ({"rates": 0}, "rates must be between 1"),
        ({"evaluations": 0}, "evaluations must be between 1"),
        ({"steps": 0}, "steps must be between 1"),
        ({"batch": -1}, "batch must be between 1"),
        ({"length": 0}, "length must be between 1"),
        ({"workers": 0}, "workers must be between 1"),
        ({"seeds": 20_000}, "seeds must be at most 10,000; received 20000"),
        ({"rates": 51}, "rates must be at most 50; received 51"),
        ({"head_lr": 0.0}, "head_lr must be finite and above 0; received 0.0"),
        ({"head_lr": float("nan")}, "head_lr must be finite"),
        ({"engine": "serial", "workers": 2}, "workers belong to the other engines"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(RequestError, match=said.replace("(", r"\(")):
        MethodsRequest(**options)  # type: ignore[arg-type]


def test_a_comma_stands_between_methods_and_between_options() -> None:
    assert split("full, lora:rank=4,alpha=8 ,probe") == ["full", "lora:rank=4,alpha=8", "probe"]
    assert split("") == []


def test_all_methods_are_meant_unless_some_are_named() -> None:
    everything = chosen(MethodsRequest())
    assert set(everything) >= set(methods.METHODS)
    assert named(MethodsRequest()) == []


def test_methods_come_by_group_each_once() -> None:
    found = chosen(MethodsRequest(only="lora,adapter,full,lora:rank=8,probe"))
    assert found == ("full", "probe", "adapter", "lora")


def test_options_at_their_default_are_the_same_method() -> None:
    assert chosen(MethodsRequest(only="lora:rank=8")) == ("lora",)
    assert chosen(MethodsRequest(only="lora:rank=4")) == ("lora:rank=4",)


def test_three_methods_combine_in_seven_ways() -> None:
    names = chosen(MethodsRequest(combine="adapter+lora+prompt"))
    assert len(names) == 7
    assert names[:3] == ("adapter", "prompt", "lora")
    assert {frozenset(name.split("+")) for name in names} == {
        frozenset(name.split("+")) for name in combinations("adapter+lora+prompt")
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"only": "lroa"}, "unknown method 'lroa'; did you mean 'lora'?"),
        ({"only": "lora:rnk=3"}, "did you mean 'rank'?"),
        ({"only": " , "}, "only must name at least one method; received ' , '"),
        ({"combine": "lora"}, "combine needs two methods or more"),
        ({"combine": "lora+"}, "combine needs two methods or more"),
    ],
)
def test_methods_that_are_none_are_refused(options: dict[str, str], said: str) -> None:
    with pytest.raises(RequestError) as refusal:
        chosen(MethodsRequest(**options))  # type: ignore[arg-type]
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_folders_may_be_text() -> None:
    assert MethodsRequest(out="a").out == Path("a")  # type: ignore[arg-type]
