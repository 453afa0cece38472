"""Layers in four bits, and LoRA over them."""

from __future__ import annotations

import gc
import importlib
import sys
from pathlib import Path

import pytest
import torch
from method_cases import NETS, answer, train
from scipy.stats import norm
from test_layer_methods import MATRICES, attach, count, ranks
from torch import Tensor, nn

from idim import methods
from idim.errors import RequestError
from idim.methods import CannotAttach, Setting, libraries
from idim.methods.places import body_parameters
from idim.methods.qlora import OverFourBits
from idim.methods.quantise import quantise

pytest.importorskip("bitsandbytes")

BERT, RESNET = NETS["bert"], NETS["resnet"]
OFFSET = (1 - 1 / 32 + 1 - 1 / 30) / 2  # Dettmers et al., appendix E: between the outermost quantiles of the halves
BLOCK = 64


def levels() -> Tensor:
    """Return the 16 levels of NF4: normal quantiles of two halves that share the 0."""
    above = norm.ppf(torch.linspace(OFFSET, 0.5, 9)[:-1])
    below = -norm.ppf(torch.linspace(OFFSET, 0.5, 8)[:-1])
    found = torch.tensor([*above, 0.0, *below], dtype=torch.float32).sort().values
    return found / found.max()


def by_hand(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the nearest level of every weight, and the largest entry of every block."""
    blocks = weight.reshape(-1, BLOCK)
    largest = blocks.abs().amax(dim=1, keepdim=True)
    nearest = (blocks / largest).unsqueeze(-1).sub(levels()).abs().argmin(dim=-1)
    return levels()[nearest], largest


def test_weights_are_the_nearest_normal_quantiles_times_the_largest_of_their_block() -> None:
    model = nn.Sequential(nn.Linear(256, 128, bias=False))
    weight = torch.randn(128, 256, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model[0].weight.copy_(weight)
    level, largest = by_hand(weight)
    found = quantise(model).weights()["0.weight"].reshape(-1, BLOCK)
    step = (largest - largest.mean()).abs().max() * 2 / 128  # of the eight bits of the largest entries, at the coarsest
    assert ((found - level * largest).abs() <= level.abs() * step + 1e-5).float().mean() > 0.999  # but for near ties
    error = (found - weight.reshape(-1, BLOCK)).norm() / weight.norm()
    assert 0.05 < error < 0.12


def test_a_weight_takes_four_bits_and_an_eighth() -> None:
    model = nn.Sequential(nn.Linear(1024, 1024))
    assert quantise(model).bytes * 8 / 1024**2 == pytest.approx(4 + 8 / 64 + 32 / (64 * 256), abs=0.02)


@pytest.mark.parametrize("train_mode", [False, True])
def test_answers_are_those_of_the_weights_written_out(train_mode: bool) -> None:
    model, plain = BERT.make(), BERT.make()
    quantised = quantise(model)
    with torch.no_grad():
        for name, weight in quantised.weights().items():
            plain.get_parameter(name).copy_(weight)
    for net in (model, plain):
        net.train(train_mode)
    torch.testing.assert_close(model(BERT.inputs()), plain(BERT.inputs()), rtol=1e-5, atol=1e-5)
    first = answer(model, BERT)
    torch.testing.assert_close(first, answer(plain, BERT), rtol=1e-5, atol=1e-5)
    assert torch.equal(answer(model, BERT), first)
    assert type(model.head) is nn.Linear


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_weights_lie_in_a_file_meanwhile_and_come_back(dtype: torch.dtype) -> None:
    model = BERT.make().to(dtype)
    before = {name: p.detach().clone() for name, p in body_parameters(model).items()}
    identities = {name: id(p) for name, p in body_parameters(model).items()}
    quantised = quantise(model)
    assert len(quantised.places) == MATRICES
    assert all(place.weight.numel() == 0 for place in quantised.places)
    file = quantised._file
    assert file.exists()
    assert quantised.restore() is model
    assert not file.parent.exists()
    for name, p in body_parameters(model).items():
        assert torch.equal(p, before[name])
        assert id(p) == identities[name]


def test_the_file_goes_with_the_object() -> None:
    quantised = quantise(BERT.make())
    file = quantised._file
    del quantised
    gc.collect()
    assert not file.parent.exists()


def test_what_has_no_linear_layer_is_refused() -> None:
    model = RESNET.make()
    with pytest.raises(CannotAttach, match="'quantise' looks for linear layers; received a network of BatchNorm2d"):
        quantise(model)


def test_weights_of_more_than_32_bits_are_refused() -> None:
    with pytest.raises(RequestError, match=r"at most 32 bits; received torch.float64"):
        quantise(BERT.make().double())


def test_the_change_of_qlora_starts_at_the_quantised_network() -> None:
    attached = attach("qlora:rank=3", BERT.make())
    assert isinstance(attached, OverFourBits)
    train(attached, BERT, lr=0.02)
    origin = attached.origin()
    merged = {name: p.detach() for name, p in attached.merge().named_parameters()}
    assert ranks(origin, merged, list(origin)) == [3] * MATRICES
    attached.detach()


def test_qlora_starts_where_quantising_leads() -> None:
    model, other = BERT.make(), BERT.make()
    wanted = answer(model, BERT)
    quantise(other)
    attach("qlora", model)
    assert torch.equal(answer(model, BERT), answer(other, BERT))
    assert 1e-3 < (answer(model, BERT) - wanted).abs().max() < 0.5


def test_qlora_trains_what_lora_trains_and_quantises_all() -> None:
    one, other = attach("qlora:rank=3,targets=qv", BERT.make()), attach("lora:rank=3,targets=qv", BERT.make())
    assert isinstance(one, OverFourBits)
    assert count(one) == count(other)
    assert one.stored().keys() == other.stored().keys()
    assert len(one.quantised.places) == MATRICES
    train(one, BERT, lr=0.02)
    wanted = answer(one.module, BERT)
    torch.testing.assert_close(answer(one.merge(), BERT), wanted, rtol=1e-5, atol=1e-5)


def test_together_with_others_it_starts_at_the_quantised_network_too() -> None:
    model = BERT.make()
    attached = methods.attach(methods.parse("qlora:rank=2+adapter"), model, Setting(seed=3, steps=3))
    assert len(attached.origin()) == MATRICES
    attached.detach()


@pytest.mark.parametrize("name", ["lora", "adalora:rank=1,begin=2", "dora", "vera:rank=8"])
def test_other_methods_train_over_four_bits_and_do_not_merge(name: str) -> None:
    model = BERT.make()
    quantised = quantise(model)
    wanted = answer(model, BERT)
    attached = methods.attach(methods.parse(name), model, Setting(seed=3, steps=3))
    torch.testing.assert_close(answer(model, BERT), wanted, rtol=1e-5, atol=1e-5)
    train(attached, BERT, lr=0.02)
    assert not torch.equal(answer(model, BERT), wanted)
    with pytest.raises(RequestError, match="cannot be merged into layers of 4 bits"):
        attached.merge()
    attached.detach()
    assert all(type(model.get_submodule(place.name)).__name__ == "Linear4bit" for place in quantised.places)


@pytest.mark.parametrize("name", ["unilora", "tinylora"])
def test_methods_that_cannot_read_four_bits_refuse_them(name: str) -> None:
    model = BERT.make()
    quantise(model)
    with pytest.raises(CannotAttach, match="looks for linear layers; received"):
        attach(name, model)


@pytest.mark.parametrize(("package", "extra", "name"), [("bitsandbytes", "qlora", "qlora"), ("peft", "hf", "lora")])
def test_a_missing_package_is_one_line_naming_the_extra(
    monkeypatch: pytest.MonkeyPatch, package: str, extra: str, name: str
) -> None:
    model = BERT.make()
    wanted = answer(model, BERT)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(RequestError, match=rf"needs the package {package}: .*idim-toolkit\[{extra}\]") as caught:
        attach(name, model)
    assert "\n" not in str(caught.value)
    assert torch.equal(answer(model, BERT), wanted)


def test_an_old_peft_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    peft = pytest.importorskip("peft")
    monkeypatch.delattr(peft, "UniLoraConfig")
    with pytest.raises(RequestError, match="needs a peft that has UniLoraConfig; received peft 0"):
        attach("unilora", BERT.make())


def test_nothing_is_fetched_while_a_library_is_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "kernels.py").write_text("def get_kernel(name): raise AssertionError\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "kernels", raising=False)
    with libraries._nothing_fetched(), pytest.raises(ImportError):
        importlib.import_module("kernels")
    assert "kernels" not in sys.modules
    assert importlib.import_module("kernels").__file__ == str(tmp_path / "kernels.py")
    monkeypatch.delitem(sys.modules, "kernels")


@pytest.mark.parametrize("method", ["full", "last:k=1", "masks"])
def test_what_changes_a_rounded_network_in_place_is_refused_in_one_line(method: str) -> None:
    model = BERT.make()
    quantise(model)
    with pytest.raises(CannotAttach, match=r"whole numbers cannot move; received \d+ of them, .*rounded") as refused:
        methods.attach(methods.parse(method), model, Setting(seed=0, steps=1))
    assert "\n" not in str(refused.value)
