"""Adapters: the change read from the folder is what peft's own merge does to the real model."""

from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from idim.errors import RequestError
from idim.spectral.pairing.pairs import open_pairs

peft = pytest.importorskip("peft")
Conv1D = pytest.importorskip("transformers.pytorch_utils").Conv1D
pytestmark = pytest.mark.filterwarnings("ignore")
LINEAR = ["query", "value", "up"]


class Block(nn.Module):
    """Linear layers of several shapes, one without a bias, and one that stores its weight as (in, out)."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.value = nn.Linear(16, 16), nn.Linear(16, 16, bias=False)
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)
        self.square, self.wide = Conv1D(16, 16), Conv1D(48, 16)


class Net(nn.Module):
    """A network with every kind of layer that an adapter can change."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.conv, self.point = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.norm, self.classifier = nn.LayerNorm(16), nn.Linear(16, 3)


def moved(model: nn.Module, *, seed: int, size: float = 0.1) -> nn.Module:
    """Move every trainable parameter of a model, by draws of its own generator."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += size * torch.randn(parameter.shape, generator=generator)
    return model


def trained(folder: Path, config: object) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Save a base and an adapter of it; return the states of the base and of the merged model."""
    with torch.random.fork_rng():
        base = moved(Net(), seed=0)
        model = moved(peft.get_peft_model(copy.deepcopy(base), config), seed=1)
    state = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    save_file(state, folder / "base.safetensors")
    model.save_pretrained(folder / "adapter")
    return state, model.merge_and_unload().state_dict()


def check(folder: Path, config: object, *, precision: float = 2e-6) -> object:
    """Assert that every tensor that merging changes is a delta, and the right one; return the pairs."""
    base, merged = trained(folder, config)
    pairs = open_pairs(folder / "base.safetensors", folder / "adapter")
    changed = {name for name in base if not torch.equal(base[name], merged[name])}
    assert changed
    assert changed <= set(pairs.names)
    for name in pairs.names:
        delta = pairs.load(name)
        expected = merged[name].double() - base[name].double()
        assert delta.shape == tuple(expected.shape)
        found = delta.difference(torch.float64).reshape(expected.shape)
        scale = float(merged[name].abs().max())  # the oracle's own rounding: merged and base are float32
        assert float((found - expected).abs().max()) <= precision * scale, name
        assert torch.equal(delta.base.reshape(base[name].shape), base[name])
    return pairs


LORA = {
    "plain": {"target_modules": LINEAR, "lora_alpha": 16},
    "rank-stabilised": {"target_modules": LINEAR, "lora_alpha": 3, "use_rslora": True},
    "patterns": {
        "target_modules": LINEAR,
        "rank_pattern": {"blocks.0.query": 2, "up": 5, r"blocks\.\d\.value": 3},
        "alpha_pattern": {"blocks.1.query": 3, "^blocks.0.up": 7},
    },
    "fan-in-fan-out": {"target_modules": ["square", "wide"], "fan_in_fan_out": True},
    "embedding": {"target_modules": ["embed"]},
    "convolution": {"target_modules": ["conv", "point"]},
    "whole tensors": {"target_modules": ["query"], "modules_to_save": ["classifier", "norm"]},
    "trained biases": {"target_modules": ["query"], "bias": "lora_only"},
    "all biases": {"target_modules": ["query"], "bias": "all"},
    "bias of the factors": {"target_modules": ["query", "up"], "lora_bias": True},
}


@pytest.mark.parametrize("options", LORA.values(), ids=LORA)
def test_lora_is_exact_factors(tmp_path, options):
    pairs = check(tmp_path, peft.LoraConfig(**{"r": 4} | options))
    modules = {name.rpartition(".")[0] for name in Net().state_dict()}
    adapted = {f"{module}.weight" for module in modules if module.split(".")[-1] in options["target_modules"]}
    factored = {name for name in pairs.names if pairs.load(name).factors is not None}
    assert factored == adapted
    for name in factored:
        delta = pairs.load(name)
        assert delta.factors.shape == delta.matrix
        assert delta.tuned is None
        assert torch.linalg.matrix_rank(delta.factors.dense()) <= delta.factors.up.shape[1] <= 5


def test_layers_of_both_orientations_in_one_adapter(tmp_path):
    """Square weights alone need the configuration; peft writes there what the last layer was."""
    check(tmp_path, peft.LoraConfig(target_modules=["wide", "up", "down"], fan_in_fan_out=True))


MERGED = {
    "DoRA": lambda: peft.LoraConfig(target_modules=[*LINEAR, "conv", "embed"], use_dora=True, r=4),
    "DoRA of (in, out)": lambda: peft.LoraConfig(target_modules=["square", "wide"], use_dora=True, fan_in_fan_out=True),
    "AdaLoRA": lambda: peft.AdaLoraConfig(target_modules=LINEAR, total_step=10),
    "VeRA": lambda: peft.VeraConfig(target_modules=LINEAR, r=4),
    "VeRA, drawn again": lambda: peft.VeraConfig(target_modules=LINEAR, r=4, save_projection=False),
    "IA3": lambda: peft.IA3Config(target_modules=["query", "value", "down"], feedforward_modules=["down"]),
    "LoHa": lambda: peft.LoHaConfig(target_modules=[*LINEAR, "conv"]),
    "LoKr": lambda: peft.LoKrConfig(target_modules=[*LINEAR, "conv"]),
    "OFT": lambda: peft.OFTConfig(target_modules=LINEAR, r=4, oft_block_size=0),
    "BOFT": lambda: peft.BOFTConfig(target_modules=LINEAR),
    "FourierFT": lambda: peft.FourierFTConfig(target_modules=LINEAR, n_frequency=10),
    "HRA": lambda: peft.HRAConfig(target_modules=LINEAR),
    "RandLoRA": lambda: peft.RandLoraConfig(target_modules=LINEAR, r=4),
    "VB-LoRA": lambda: peft.VBLoRAConfig(target_modules=LINEAR, r=4, vector_length=8, num_vectors=16),
}


@pytest.mark.parametrize("config", MERGED.values(), ids=MERGED)
def test_other_kinds_are_merged_as_peft_merges_them(tmp_path, config):
    state = torch.random.get_rng_state()
    pairs = check(tmp_path, config())
    pairs.load(pairs.names[0])
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(pairs.load(name).made.startswith("merged by peft") for name in pairs.names)


def test_the_adapter_of_a_wrapped_model_finds_the_names_of_its_base(tmp_path):
    base, merged = trained(tmp_path, peft.LoraConfig(target_modules=LINEAR, modules_to_save=["classifier"]))
    bare = {name.removeprefix("blocks."): tensor for name, tensor in base.items() if name.startswith("blocks.")}
    pairs = open_pairs(bare, tmp_path / "adapter")
    assert set(pairs.names) == {f"{i}.{layer}.weight" for i in range(2) for layer in LINEAR}
    for name in pairs.names:
        expected = merged[f"blocks.{name}"] - base[f"blocks.{name}"]
        assert torch.allclose(pairs.load(name).difference(), expected, atol=1e-6)
    skipped = {row.name: row.reason for row in pairs.skipped}
    assert skipped["base_model.model.classifier.weight"].startswith("only in the adapter")
    assert skipped["*"] == "16 tensors of the base are outside the adapter, unchanged"


def test_factors_are_known_without_a_base(tmp_path):
    base, _ = trained(tmp_path, peft.LoraConfig(target_modules=["up", "conv", "embed"], r=4))
    alone, beside = (open_pairs(b, tmp_path / "adapter") for b in (None, tmp_path / "base.safetensors"))
    assert set(alone.names) == set(beside.names)
    for name in alone.names:
        assert alone.load(name).base is None
        assert alone.load(name).matrix == beside.load(name).matrix
        assert torch.equal(alone.load(name).difference(), beside.load(name).difference())
    assert base.keys() > set(alone.names)


def test_an_embedding_saved_beside_its_factors(tmp_path):
    base, _ = trained(tmp_path, peft.LoraConfig(target_modules=["embed", "up"], r=4))
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    for weight, told in ((base["embed.weight"], 0), (base["embed.weight"] + 1, 1)):
        save_file(load_file(file) | {"base_model.model.embed.base_layer.weight": weight.clone()}, file)
        pairs = open_pairs(tmp_path / "base.safetensors", tmp_path / "adapter")
        assert sum("replaces this weight too" in row.reason for row in pairs.skipped) == told
        assert pairs.load("embed.weight").factors is not None


def test_half_precision_adapters_keep_their_dtype(tmp_path):
    trained(tmp_path, peft.LoraConfig(target_modules=["up"], r=4))
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file({name: tensor.bfloat16() for name, tensor in load_file(file).items()}, file)
    delta = open_pairs(tmp_path / "base.safetensors", tmp_path / "adapter").load("blocks.0.up.weight")
    assert delta.factors.up.dtype == torch.bfloat16
    exact = delta.factors.up.double() @ delta.factors.down.double() * 2
    assert torch.equal(delta.difference(torch.float64), exact)


def test_attention_that_keeps_three_weights_in_one(tmp_path):
    """peft's forward pass adds the factors of out_proj twice, so what they change is not said here."""
    base = nn.ModuleDict({"attention": nn.MultiheadAttention(16, 2), "line": nn.Conv1d(8, 4, 3)})
    model = moved(
        peft.get_peft_model(copy.deepcopy(base), peft.LoraConfig(target_modules=["attention", "line"])), seed=1
    )
    model.save_pretrained(tmp_path)
    pairs, merged, state = open_pairs(base, tmp_path), model.merge_and_unload().state_dict(), base.state_dict()
    assert set(pairs.names) == {"attention.in_proj_weight", "line.weight"}
    for name in pairs.names:
        found = pairs.load(name).difference().reshape(state[name].shape)
        assert torch.allclose(found, merged[name] - state[name], atol=1e-6)
    assert sum("twice" in row.reason for row in pairs.skipped) == 2


def test_a_grouped_convolution_is_refused(tmp_path):
    base = nn.ModuleDict({"grouped": nn.Conv2d(8, 8, 3, groups=4)})
    peft.get_peft_model(copy.deepcopy(base), peft.LoraConfig(target_modules=["grouped"], r=4)).save_pretrained(tmp_path)
    with pytest.raises(RequestError, match=r"must multiply to \(8, 18\); received B \[8, 1, 1, 1\]"):
        open_pairs(base, tmp_path).load("grouped.weight")


# -- refused -----------------------------------------------------------------------------------------------


def rewritten(folder: Path, **fields: object) -> None:
    path = folder / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def without(folder: Path, part: str) -> None:
    file = folder / "adapter" / "adapter_model.safetensors"
    save_file({name: tensor for name, tensor in load_file(file).items() if part not in name}, file)


def spoiled(folder: Path) -> None:
    file = folder / "adapter" / "adapter_model.safetensors"
    save_file({name: tensor * math.nan for name, tensor in load_file(file).items()}, file)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            lambda f: rewritten(f, peft_type="PROMPT_TUNING"),
            "kind of an adapter must be one of .* received 'PROMPT_TUNING'",
        ),
        (lambda f: rewritten(f, peft_type=["LORA"]), "kind of an adapter must be one of"),
        (lambda f: rewritten(f, init_lora_weights="pissa_niter_4"), "init_lora_weights 'pissa_niter_4'"),
        (lambda f: rewritten(f, use_qalora=True), "variant is not read; received .* with use_qalora"),
        (lambda f: rewritten(f, r="4"), "r of an adapter must be a number; received '4'"),
        (lambda f: rewritten(f, r=0), "rank of an adapter must be a positive integer"),
        (lambda f: rewritten(f, r=8), "must give the rank of 'blocks.0.query', 4; received 8"),
        (lambda f: rewritten(f, lora_alpha=None), "lora_alpha of an adapter must be a number; received None"),
        (lambda f: rewritten(f, rank_pattern={"(": 3}), "rank_pattern must have regular expressions"),
        (lambda f: rewritten(f, alpha_pattern=[3]), "alpha_pattern must map patterns to numbers"),
        (lambda f: without(f, "lora_B"), "received 'blocks.0.query' without B"),
        (lambda f: without(f, "base_model"), "must have tensors"),
        (spoiled, "every number must be finite; received .* NaN"),
        (lambda f: (f / "adapter" / "adapter_model.safetensors").unlink(), "must have its tensors"),
        (lambda f: (f / "adapter" / "adapter_model.safetensors").write_bytes(b"x"), "whole and well formed"),
        (lambda f: (f / "adapter" / "adapter_config.json").write_text("nonsense"), "must be readable JSON"),
    ],
)
def test_a_damaged_adapter_gives_one_line(tmp_path, change, fault):
    trained(tmp_path, peft.LoraConfig(target_modules=["query"], r=4))
    change(tmp_path)
    with pytest.raises(RequestError, match=fault) as caught:
        open_pairs(tmp_path / "base.safetensors", tmp_path / "adapter").load("blocks.0.query.weight")
    assert "\n" not in str(caught.value)


def test_an_adapter_of_another_model_is_refused(tmp_path):
    trained(tmp_path, peft.LoraConfig(target_modules=["query"], r=4))
    with pytest.raises(RequestError, match="must change weights of the base in memory, with 1 tensors; received"):
        open_pairs({"other.weight": torch.ones(2, 2)}, tmp_path / "adapter")
    narrow = {name: tensor[:, :8] if tensor.ndim == 2 else tensor for name, tensor in Net().state_dict().items()}
    with pytest.raises(RequestError, match=r"must multiply to \(16, 8\); received B \[16, 4\] and A \[4, 16\]"):
        open_pairs(narrow, tmp_path / "adapter").load("blocks.0.query.weight")


def test_dora_needs_its_base_and_all_its_tensors(tmp_path):
    trained(tmp_path, peft.LoraConfig(target_modules=["query"], r=4, use_dora=True))
    with pytest.raises(RequestError, match="needs its base"):
        open_pairs(None, tmp_path / "adapter")
    without(tmp_path, "magnitude")
    with pytest.raises(RequestError, match=r"the tensors of its kind, DoRA; received .* without"):
        open_pairs(tmp_path / "base.safetensors", tmp_path / "adapter").load("blocks.0.query.weight")


def test_an_adapter_is_no_base(tmp_path):
    trained(tmp_path, peft.LoraConfig(target_modules=["query"], r=4))
    with pytest.raises(RequestError, match=r"the base must be a whole model; received .*adapter"):
        open_pairs(tmp_path / "adapter", tmp_path / "adapter")


@pytest.mark.slow
def test_lora_is_read_without_peft(tmp_path):
    trained(tmp_path, peft.LoraConfig(target_modules=["query"], r=4))
    program = (
        "import sys; sys.modules['peft'] = None\n"
        "from idim.spectral.pairing.pairs import open_pairs\n"
        "pairs = open_pairs(sys.argv[1], sys.argv[2])\n"
        "assert all(pairs.load(name).factors for name in pairs.names)\n"
        "assert 'transformers' not in sys.modules\n"
    )
    arguments = [str(tmp_path / "base.safetensors"), str(tmp_path / "adapter")]
    subprocess.run([sys.executable, "-c", program, *arguments], check=True, cwd=Path(__file__).parents[2])


def test_warnings_of_peft_stay_inside(tmp_path):
    trained(tmp_path, peft.VeraConfig(target_modules=["query"], r=4, save_projection=False))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        open_pairs(tmp_path / "base.safetensors", tmp_path / "adapter").load("blocks.0.query.weight")
    assert not caught
