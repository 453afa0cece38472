"""Whole models: names, rows left out, going on from finished records, the summary and its picture."""

from __future__ import annotations

import doctest
import json
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from idim import plots
from idim.errors import RequestError
from idim.spectral.comparison import chance, similarity, together, versus
from idim.spectral.comparison.similarity_map import similarity_map
from idim.spectral.comparison.together import ModelComparison
from idim.spectral.comparison.versus import compare_models
from idim.spectral.pairing.pairs import Pairs, open_pairs

State = dict[str, Tensor]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def model(seed: int) -> State:
    return {
        "one.weight": normal(30, 20, seed=seed),
        "one.bias": normal(30, seed=seed + 1),
        "two.weight": normal(24, 30, seed=seed + 2),
    }


def plus(base: State, *changes: State) -> State:
    return {name: weights + sum(0.1 * change[name] for change in changes) for name, weights in base.items()}


@pytest.fixture
def pairs() -> tuple[Pairs, Pairs]:
    base, common = model(0), model(10)
    return open_pairs(base, plus(base, common, model(20))), open_pairs(base, plus(base, common, model(30)))


def test_the_whole_of_two_models(pairs: tuple[Pairs, Pairs]) -> None:
    found = compare_models(*pairs, k=4)
    assert [record.name for record in found.tensors] == ["one.bias", "one.weight", "two.weight"]
    deltas = [torch.cat([pair.load(n).difference(torch.float64).flatten() for n in pair.names]) for pair in pairs]
    expected = float(torch.nn.functional.cosine_similarity(deltas[0], deltas[1], dim=0))
    summary = found.summary
    assert summary.cosine == pytest.approx(expected, abs=1e-6)
    assert (summary.tensors, summary.matrices) == (3, 2)
    assert summary.left is not None
    assert summary.left.overlap > summary.left.chance.high  # half of each change is common
    assert summary.left.chance.mean == pytest.approx((4 / 30 + 4 / 24) / 2)
    assert summary.left.compared == 8
    assert summary.base_a is not None
    assert summary.base_a.looked_at == 20
    assert ModelComparison.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False))) == found
    assert max(len(line) for line in str(found).splitlines()) <= 80


def test_a_model_beside_itself(pairs: tuple[Pairs, Pairs]) -> None:
    summary = compare_models(pairs[0], pairs[0], k=3).summary
    assert summary.cosine == pytest.approx(1.0)
    assert summary.left is not None
    assert summary.left.overlap == pytest.approx(1.0)
    assert (summary.left.shared, summary.left.compared) == (6, 6)
    assert summary.base_a == summary.base_b


def test_a_killed_comparison_goes_on(pairs: tuple[Pairs, Pairs], monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[str, Any] = {}
    whole = compare_models(*pairs, keep=lambda name, record: kept.update({name: json.loads(json.dumps(record))}))
    assert list(kept) == [record.name for record in whole.tensors]
    rest, made = {"one.weight": kept["one.weight"]}, []
    original = versus.compare_pair
    monkeypatch.setattr(versus, "compare_pair", lambda *d, **o: made.append(d[0].name) or original(*d, **o))
    shown: list[str] = []
    again = compare_models(*pairs, done=rest, progress=lambda record: shown.append(record.name))
    assert again == whole
    assert made == ["one.bias", "two.weight"]
    assert shown == ["one.bias", "one.weight", "two.weight"]


def test_a_base_is_decomposed_once_for_both(pairs: tuple[Pairs, Pairs], monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    original = versus.of_base
    monkeypatch.setattr(versus, "of_base", lambda w, *, name: made.append(name) or original(w, name=name))
    shared = compare_models(*pairs)
    assert len(made) == 2
    other = open_pairs(model(1), plus(model(1), model(30)))
    mixed = compare_models(pairs[0], other)
    assert len(made) == 6
    assert mixed.tensors[1].base_a == shared.tensors[1].base_a
    without = compare_models(*pairs, base=False)
    assert len(made) == 6
    assert without.summary.base_a is None
    assert [r.between for r in without.tensors] == [r.between for r in shared.tensors]


def test_what_cannot_be_compared_is_named() -> None:
    base = model(0) | {"extra.weight": normal(6, 5)}
    first, second = plus(base, base), plus(base, base)
    del first["extra.weight"]
    wider, narrow = dict(base), dict(base)
    wider["two.weight"] = narrow["two.weight"] = normal(25, 30)
    second["two.weight"] = normal(25, 30)
    found = compare_models(open_pairs(base, first), open_pairs(wider, second))
    reasons = {row.name: row.reason for row in found.skipped}
    assert reasons["extra.weight"] == "only the second model changes it"
    assert "two updates must have one shape; received [24, 30] and [25, 30]" in reasons["two.weight"]
    assert [record.name for record in found.tensors] == ["one.bias", "one.weight"]


def test_a_tensor_with_nan_is_a_row_and_a_full_disk_is_not(pairs: tuple[Pairs, Pairs]) -> None:
    base = model(0)
    bad = plus(base, base)
    bad["two.weight"][3, 4] = float("nan")
    found = compare_models(open_pairs(base, bad), pairs[1])
    assert [row.name for row in found.skipped] == ["two.weight"]
    assert "two.weight" in found.skipped[0].reason

    def full(name: str, record: object) -> None:
        raise RequestError("the file finished.jsonl must be writable; received: No space left on device")

    with pytest.raises(RequestError, match="No space left"):
        compare_models(*pairs, keep=full)


def test_bad_requests(pairs: tuple[Pairs, Pairs]) -> None:
    for option in ({"k": 0}, {"top": 0}, {"threshold": 0.0}):
        with pytest.raises(RequestError, match=f"{next(iter(option))} must be"):
            compare_models(*pairs, **option)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="tensors in common; received 0 and 0 tensors, none of one name"):
        compare_models(*pairs, names=["three.weight"])


def test_one_row_a_tensor(pairs: tuple[Pairs, Pairs]) -> None:
    frame = compare_models(*pairs, names=["one.weight", "one.bias"], k=4).to_frame()
    assert list(frame["name"]) == ["one.bias", "one.weight"]
    matrix = frame.iloc[1]
    assert matrix["rank_a"] == 4
    assert 0 <= matrix["overlap_left"] <= 1
    assert matrix["chance_right"] == 4 / 20
    assert np.isnan(frame.iloc[0]["overlap_left"])


def test_the_map_of_similarity(pairs: tuple[Pairs, Pairs]) -> None:
    found = compare_models(*pairs, k=4)
    with plots.figure() as (_, ax):
        assert found.plot(ax, side="left") is ax
        tables = [np.array(r.between.left.similarity) for r in found.tensors if r.between.left]
        np.testing.assert_allclose(ax.images[0].get_array(), np.mean(tables, axis=0))
        assert (ax.get_title(loc="left"), ax.get_ylabel()) == ("left directions, mean of 2", "first i directions")
    with plots.figure() as (_, ax):
        similarity_map(ax, np.ones((40, 16)), chance=0.8)
        assert [int(t.get_text()) for t in ax.get_yticklabels()] == list(range(4, 41, 4))
    low = compare_models(*pairs, k=25)
    with plots.figure() as (_, ax), pytest.raises(RequestError, match="k = 25 directions in both; received none"):
        low.plot(ax)


@pytest.mark.parametrize("module", [similarity, chance, together], ids=lambda module: module.__name__)
def test_the_examples_in_the_docstrings(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
