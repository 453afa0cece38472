from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from idim.errors import RequestError
from idim.runs import RunSpec, Store
from idim.runs import spec as spec_module
from idim.tasks import Recipe

BASE = RunSpec(task="toy", fingerprint="ab", model="linear", method="full", lr=0.1, recipe=Recipe(), seed=0)

SPECS = st.builds(
    RunSpec,
    task=st.sampled_from(["toy", "digits", "idx:some/folder"]),
    fingerprint=st.text("0123456789abcdef", min_size=1),
    model=st.sampled_from(["linear", "mlp:3"]),
    method=st.just("subspace"),
    projection=st.sampled_from(["hadamard", "dense"]),
    d=st.integers(1, 10**9),
    lr=st.floats(1e-300, 1e300),
    recipe=st.builds(Recipe, steps=st.integers(1, 10**6), l2=st.floats(0, 1), batch_size=st.integers(0, 10**4)),
    seed=st.integers(),
)


@given(SPECS)
def test_plain_data_and_back(one: RunSpec) -> None:
    again = RunSpec.from_json(json.loads(json.dumps(one.to_json())))
    assert again == one
    assert again.key == one.key


@given(SPECS, SPECS)
def test_keys_are_equal_exactly_when_specs_are(one: RunSpec, other: RunSpec) -> None:
    assert (one.key == other.key) == (one == other)


def test_every_field_is_in_the_key() -> None:
    changes: list[dict[str, object]] = [
        {"task": "digits"},
        {"fingerprint": "ac"},
        {"model": "mlp"},
        {"method": "subspace", "projection": "dense", "d": 3},
        {"method": "subspace", "projection": "uniform", "d": 3},
        {"method": "subspace", "projection": "dense", "d": 4},
        {"lr": math.nextafter(0.1, 1)},
        {"seed": 1},
        *({"recipe": Recipe(**{name: value})} for name, value in {  # type: ignore[arg-type]
            "optimizer": "sgd", "schedule": "constant", "batch_size": 4, "steps": 2, "l2": 0.1,
            "precision": "float64", "train_on": "train+selection",
        }.items()),
    ]  # fmt: skip
    keys = {dataclasses.replace(BASE, **change).key for change in [{}, *changes]}  # type: ignore[arg-type]
    assert len(keys) == 1 + len(changes)


def test_the_key_is_golden_and_versioned(monkeypatch: pytest.MonkeyPatch) -> None:
    golden = "5c5d8d01d17d39d88105f5e255dbbdb66e1bb997e748c88bd981cd2639a7eaef"
    assert BASE.key == golden
    monkeypatch.setattr(spec_module, "RUN_VERSION", 99)
    assert dataclasses.replace(BASE).key != golden


def test_numbers_of_any_kind_give_one_key() -> None:
    one = dataclasses.replace(
        BASE, lr=np.float64(1), seed=np.int64(3), method="subspace", projection="dense", d=np.int32(5)
    )
    same = dataclasses.replace(BASE, lr=1, seed=3, method="subspace", projection="dense", d=5)
    assert one == same
    assert one.key == same.key


def test_where_data_lie_is_not_in_the_key() -> None:
    for kind in ("idx", "csv"):
        here, there = (dataclasses.replace(BASE, task=f"{kind}:{folder}") for folder in ("here", "there"))
        assert here.key == there.key
    assert here.key != dataclasses.replace(here, fingerprint="other").key


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"method": "ful"}, "unknown method 'ful'; did you mean 'full'"),
        ({"d": 5}, "method 'full' takes neither; received 'full' with projection None, d 5"),
        ({"method": "subspace"}, "takes a projection and d"),
        ({"method": "subspace", "projection": "dense"}, "received 'subspace' with projection 'dense', d None"),
        ({"method": "subspace", "projection": "dense", "d": 0}, "d must be at least 1; received d = 0"),
        ({"lr": 0.0}, "lr must be finite and above 0; received 0.0"),
        ({"lr": math.nan}, "lr must be finite and above 0; received nan"),
        ({"lr": math.inf}, "lr must be finite and above 0; received inf"),
    ],
)
def test_what_no_run_can_be_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        dataclasses.replace(BASE, **change)  # type: ignore[arg-type]


def test_plain_data_with_other_fields_is_refused() -> None:
    content = BASE.to_json()
    with pytest.raises(RequestError, match="unknown field of RunSpec 'sed'; did you mean 'seed'"):
        RunSpec.from_json(content | {"sed": 1})
    with pytest.raises(RequestError, match="unknown field of Recipe 'step'; did you mean 'steps'"):
        RunSpec.from_json(content | {"recipe": {"step": 1}})
    del content["model"]
    with pytest.raises(RequestError, match=r"RunSpec is incomplete: .*'model'"):
        RunSpec.from_json(content)


def test_fields_that_came_later_leave_earlier_keys_as_they_are() -> None:
    content = BASE.to_json()
    assert not {"head", "head_lr"} & content.keys()
    assert content["recipe"].keys() == {
        "optimizer", "schedule", "batch_size", "steps", "l2", "precision", "train_on",
    }  # fmt: skip


def test_the_key_of_a_stored_run_is_still_its_key() -> None:
    path = Path(__file__).resolve().parents[2] / "experiments" / "store"
    with Store.read(path) as store:
        rows = store.rows()
    assert len(rows) > 200
    for row in rows:
        assert RunSpec.from_json(row["spec"]).key == row["key"]


def test_later_fields_are_in_the_key_too() -> None:
    changes: list[dict[str, object]] = [
        {"head": "trained"},
        {"head": "frozen"},
        {"head": "trained", "head_lr": 0.1},
        *({"recipe": Recipe(**{name: value})} for name, value in {  # type: ignore[arg-type]
            "accumulate": 2, "warmup": 0.1, "length": 64, "bucketed": True, "dropout": True,
        }.items()),
    ]  # fmt: skip
    specs = [dataclasses.replace(BASE, **change) for change in changes]  # type: ignore[arg-type]
    assert len({BASE.key, *(one.key for one in specs)}) == 1 + len(changes)
    for one in specs:
        assert RunSpec.from_json(json.loads(json.dumps(one.to_json()))) == one


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"head": "trainde"}, "unknown head 'trainde'; did you mean 'trained'"),
        ({"head_lr": 0.1}, "head_lr needs head 'trained'; received 0.1 with head 'inside'"),
        ({"head": "trained", "head_lr": 0.0}, "head_lr must be finite and above 0; received 0.0"),
    ],
)
def test_heads_that_no_run_can_have_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        dataclasses.replace(BASE, **change)  # type: ignore[arg-type]
