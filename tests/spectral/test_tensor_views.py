"""Deltas and the matrices they are analysed as; names under other prefixes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from idim.spectral.pairing.delta import Delta, Factors
from idim.spectral.pairing.renaming import Renaming, find_renaming, rename
from idim.spectral.pairing.shapes import views

SHAPES = [
    ("w", (5, 3), (5, 3), ""),
    ("w", (1, 3), (1, 3), ""),
    ("conv", (64, 3, 3, 3), (64, 27), "convolution (64, 3, 3, 3) as (64, 27)"),
    ("conv", (8, 4, 5), (8, 20), "convolution (8, 4, 5) as (8, 20)"),
    ("position", (1, 197, 768), (197, 768), "(1, 197, 768) as (197, 768)"),
    ("token", (1, 1, 768), None, ""),
    ("bias", (7,), None, ""),
    ("scale", (), None, ""),
]


@pytest.mark.parametrize(("name", "shape", "matrix", "told"), SHAPES)
def test_each_shape_has_its_matrix(name, shape, matrix, told):
    (view,) = views(name, shape)
    assert (view.name, view.matrix, view.reshaped) == (name, matrix, told)
    assert view.of(torch.zeros(shape)).shape == torch.Size(matrix or shape)


def test_a_stack_of_experts_is_many_matrices():
    stack = views("mlp.experts.down_proj", (4, 3, 2))
    assert [view.name for view in stack] == [f"mlp.experts.down_proj[{i}]" for i in range(4)]
    assert {view.matrix for view in stack} == {(3, 2)}


@pytest.mark.parametrize(
    ("base", "tuned"), [(a, b) for a in (torch.float16, torch.bfloat16) for b in (a, torch.float32)]
)
def test_differences_of_near_numbers_are_exact_in_float32(base, tuned):
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(64, 32, generator=generator).to(base)
    second = (first.double() * (1 + 0.1 * torch.rand(64, 32, generator=generator))).to(tuned)
    delta = Delta(name="w", shape=(64, 32), matrix=(64, 32), base=first, tuned=second)
    exact = second.double() - first.double()
    assert delta.difference().dtype == torch.float32
    assert torch.equal(delta.difference().double(), exact)
    assert torch.equal(delta.difference(torch.float64), exact)
    assert delta.size == 2048


def test_the_difference_leaves_the_tensors_alone():
    delta = Delta(name="w", shape=(2,), matrix=None, base=torch.ones(2), tuned=torch.full((2,), 3.0))
    assert delta.difference().tolist() == [2, 2]
    assert delta.tuned.tolist() == [3, 3]


def test_float64_is_subtracted_in_float64():
    base, tuned = torch.tensor([1.0], dtype=torch.float64), torch.tensor([1 + 1e-12], dtype=torch.float64)
    delta = Delta(name="w", shape=(1,), matrix=None, base=base, tuned=tuned)
    assert delta.difference().item() == pytest.approx(1e-12, rel=1e-3)


def test_factors_are_the_difference_and_need_no_base():
    up, down = torch.randn(5, 2), torch.randn(2, 3)
    factors = Factors(up=up, down=down, scale=0.5)
    delta = Delta(name="w", shape=(5, 3), matrix=(5, 3), factors=factors)
    assert factors.shape == (5, 3)
    assert torch.equal(delta.difference(torch.float64), 0.5 * (up.double() @ down.double()))
    with pytest.raises(ValueError, match="needs a base and a tuned tensor"):
        Delta(name="w", shape=(5, 3), matrix=(5, 3), base=up).difference()


# -- names -----------------------------------------------------------------------------------------------

BERT = ["embeddings.w", "encoder.0.query.w", "encoder.0.norm.w", "encoder.1.query.w", "encoder.1.norm.w", "pooler.w"]


@pytest.mark.parametrize(
    ("taken", "put"),
    [("bert.", ""), ("", "bert."), ("base_model.model.", ""), ("model.", "inner.model."), ("a.b.", "c.")],
)
def test_one_change_of_prefix_is_found(taken, put):
    tuned, base = [taken + name for name in BERT], [put + name for name in BERT]
    renaming = find_renaming([*tuned, "classifier.w"], base)
    assert rename([*tuned, "classifier.w"], base, renaming) == dict(zip(base, tuned, strict=True))
    assert f"begin with {renaming.taken!r}" in str(renaming)


def test_names_that_match_are_not_renamed():
    assert find_renaming([*BERT[:-1], "classifier.w"], BERT) == Renaming()  # classifier. is not pooler.
    assert str(Renaming()) == ""


def test_strangers_have_no_names_in_common():
    assert rename(["x.y", "x.z"], BERT, find_renaming(["x.y", "x.z"], BERT)) == {}


@given(st.lists(st.lists(st.sampled_from("ab0"), min_size=1, max_size=4).map(".".join), unique=True, max_size=12))
def test_every_model_matches_itself_under_any_prefix(names):
    moved = [f"new.{name}" for name in names]
    assert rename(names, names, find_renaming(names, names)) == {name: name for name in names}
    found = rename(moved, names, find_renaming(moved, names))
    assert len(set(found.values())) == len(found)
    assert all(other == f"new.{name}" for name, other in found.items()) or len(names) < 3
