"""Tensors by name, end to end: layouts, patterns, tied weights, layers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from idim.errors import RequestError
from idim.parameters import Layout, choose, layer_of, names_of

SHAPES = st.lists(st.lists(st.integers(1, 4), max_size=3).map(tuple), min_size=1, max_size=8)
DTYPES = st.sampled_from([torch.float32, torch.float64, torch.bfloat16])


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 3)
        self.middle = nn.Linear(3, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.table.weight


def named(shapes: list[tuple[int, ...]], dtypes: list[torch.dtype]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    pairs = enumerate(zip(shapes, dtypes, strict=False))
    return {f"t{i}": torch.randn(shape, generator=generator).to(dtype) for i, (shape, dtype) in pairs}


@given(SHAPES, st.lists(DTYPES, min_size=8, max_size=8))
def test_unflatten_undoes_flatten(shapes: list[tuple[int, ...]], dtypes: list[torch.dtype]) -> None:
    tensors = named(shapes, dtypes)
    layout = Layout.of(tensors)
    flats = layout.flatten(tensors)
    back = layout.unflatten(flats)
    assert list(back) == list(tensors)
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name], tensor)
    assert sum(flat.numel() for flat in flats) == layout.D == sum(t.numel() for t in tensors.values())


@given(SHAPES, st.lists(DTYPES, min_size=8, max_size=8))
def test_runs_cover_all_tensors_once_in_order(shapes: list[tuple[int, ...]], dtypes: list[torch.dtype]) -> None:
    layout = Layout.of(named(shapes, dtypes))
    assert [i for run in layout.runs for i in run] == list(range(len(shapes)))
    assert all(len({layout.dtypes[i] for i in run}) == 1 for run in layout.runs)


def test_unflatten_gives_views() -> None:
    layout = Layout.of({"a": torch.zeros(2, 2), "b": torch.zeros(3)})
    flat = torch.zeros(7)
    layout.unflatten([flat])["b"].fill_(1)
    assert flat.tolist() == [0, 0, 0, 0, 1, 1, 1]


def test_wrong_sizes_name_both() -> None:
    layout = Layout.of({"a": torch.zeros(2, 2)})
    with pytest.raises(RequestError, match=r"sizes \[4\]; received \[5\]"):
        layout.unflatten([torch.zeros(5)])
    with pytest.raises(RequestError, match=r"shape \[2, 2\]; received \[3\]"):
        layout.flatten({"a": torch.zeros(3)})
    with pytest.raises(RequestError, match=r"'a' of shape .* is missing among 1"):
        layout.flatten({"b": torch.zeros(3)})


def test_tied_weights_count_once_under_their_first_name() -> None:
    model = Tied()
    selection = choose(model)
    assert list(selection.inside) == ["table.weight", "middle.weight", "middle.bias"]
    assert selection.aliases["table.weight"] == ("table.weight", "head.weight")
    assert Layout.of(model).D == 15 + 9 + 3
    assert ("table.weight", "head.weight") in names_of(model)


def test_a_pattern_may_use_any_name_of_a_tied_tensor() -> None:
    selection = choose(Tied(), train="head.*")
    assert list(selection.trained) == ["table.weight"]
    assert "table.weight" not in selection.inside


def test_train_wins_over_exclude_and_that_over_include() -> None:
    selection = choose(Tied(), include=["*"], exclude=["middle.*"], train=["middle.bias"])
    assert list(selection.inside) == ["table.weight"]
    assert list(selection.frozen) == ["middle.weight"]
    assert list(selection.trained) == ["middle.bias"]


def test_what_the_model_froze_stays_frozen_unless_trained_by_name() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    model[1].requires_grad_(False)
    assert list(choose(model).frozen) == ["1.weight", "1.bias"]
    assert list(choose(model, train="1.bias").trained) == ["1.bias"]


def test_tensors_that_cannot_move_are_frozen() -> None:
    model = nn.Linear(2, 2)
    model.register_parameter("codes", nn.Parameter(torch.zeros(3, dtype=torch.int8), requires_grad=False))
    model.register_parameter("empty", nn.Parameter(torch.zeros(0, 3)))
    assert list(choose(model).frozen) == ["codes", "empty"]


@pytest.mark.parametrize("word", ["include", "exclude", "train"])
def test_a_pattern_that_matches_nothing_says_what_is_near(word: str) -> None:
    with pytest.raises(RequestError, match=f"{word} pattern 'midle.weight' matches none of 4 .*middle.weight") as e:
        choose(Tied(), **{word: "midle.weight"})
    assert "\n" not in str(e.value)


def test_nothing_inside_says_what_was_received() -> None:
    with pytest.raises(RequestError, match="received 0 parameters"):
        choose(nn.ReLU(), include=())
    with pytest.raises(RequestError, match=r"at least one float parameter .* 2 parameters, 2 trained directly"):
        choose(nn.Linear(2, 2), train="*")


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("bert.encoder.layer.3.attention.self.query.weight", "bert.encoder.layer.3"),
        ("bert.pooler.dense.weight", "bert.pooler.dense"),
        ("0.weight", "0"),
        ("weight", ""),
        ("scales.3", "scales"),
        ("layer1.0.conv1.weight", "layer1.0"),
    ],
)
def test_layer_of(name: str, layer: str) -> None:
    assert layer_of(name) == layer


def test_layers_are_sizes_of_consecutive_rows() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    layout = Layout.of(model)
    assert layout.layers == (15, 8)
    assert sum(layout.layers) == layout.D
