"""Adapters against their equations, written out with the modules of the layers they stand in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from method_cases import NETS, SETTING, answer, tokens
from torch import Tensor, nn
from torch.nn import functional as F

from idim import methods
from idim.errors import RequestError
from idim.methods import Attached
from idim.methods.places import in_head
from idim.models.init import generator
from idim.models.language import TextModel


def attached(name: str, model: nn.Module) -> Attached:
    """Return an adapter whose numbers are all drawn, zeros too."""
    found = methods.attach(methods.parse(name), model, SETTING)
    draw = generator(7, "tests/adapters")
    with torch.no_grad():
        for name, parameter in found.module.named_parameters():
            if parameter.requires_grad and not in_head(name):
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=draw))
    return found


def bottleneck(adapter: Any, bend: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return A(x) from the adapter's weights."""
    return bend(x @ adapter.down.weight.T + adapter.down.bias) @ adapter.up.weight.T + adapter.up.bias


def trained(found: Attached) -> int:
    return sum(p.numel() for n, p in found.module.named_parameters() if p.requires_grad and not in_head(n))


def bert_layer(kind: str, block: Any, x: Tensor) -> Tensor:
    """Return the answer of an adapted layer of BERT to hidden states x, without padding."""
    first, second = block.attention.output, block.output
    attended = first.dense(block.attention.self(x)[0])
    if kind == "houlsby":
        attended = attended + bottleneck(first.dropout.adapter, F.gelu, attended)
    x = first.LayerNorm(x + attended)
    inner = second if kind == "houlsby" else second.inner
    moved = inner.dense(block.intermediate(x))
    if kind == "houlsby":
        moved = moved + bottleneck(second.dropout.adapter, F.gelu, moved)
    if kind == "pfeiffer":
        moved = moved + bottleneck(second.adapter, F.relu, inner.LayerNorm(x + moved))
    if kind == "parallel":
        moved = moved + 4 * bottleneck(second.adapter, F.relu, x)
    answer: Tensor = inner.LayerNorm(x + moved)
    return answer


def llama_mlp(kind: str, block: Any, x: Tensor) -> Tensor:
    """Return the answer of an adapted MLP of Llama to its normalised input x."""
    mlp = block.mlp
    y = mlp.inner(x)
    return (
        y
        + {
            "houlsby": lambda: bottleneck(mlp.adapter, F.gelu, y),
            "pfeiffer": lambda: bottleneck(mlp.adapter, F.relu, y),
            "parallel": lambda: 4 * bottleneck(mlp.adapter, F.relu, x),
        }[kind]()
    )


KINDS = pytest.mark.parametrize("kind", ["houlsby", "pfeiffer", "parallel"])


@KINDS
def test_a_layer_of_bert_is_its_equation(kind: str) -> None:
    model: Any = NETS["bert"].make()
    attached(f"adapter:kind={kind},width=5", model)
    block = model.body.encoder.layer[1]
    x = torch.randn(2, 4, 32, generator=generator(0, "tests/x"))
    with torch.no_grad():
        torch.testing.assert_close(block(x), bert_layer(kind, block, x))


@KINDS
def test_an_mlp_of_llama_is_its_equation(kind: str) -> None:
    model: Any = NETS["llama"].make()
    attached(f"adapter:kind={kind},width=5", model)
    block = model.body.layers[0]
    x = torch.randn(2, 4, 32, generator=generator(0, "tests/x"))
    with torch.no_grad():
        torch.testing.assert_close(block.mlp(x), llama_mlp(kind, block, x))
        if kind == "houlsby":
            projection = block.self_attn.o_proj
            y = projection.inner(x)
            torch.testing.assert_close(projection(x), y + bottleneck(projection.adapter, F.gelu, y))


@pytest.mark.parametrize("net", ["bert", "llama"])
@pytest.mark.parametrize(("kind", "places"), [("houlsby", 2), ("pfeiffer", 1), ("parallel", 1)])
def test_so_many_numbers_are_trained(net: str, kind: str, places: int) -> None:
    found = attached(f"adapter:kind={kind},width=6", NETS[net].make())
    assert trained(found) == 2 * places * (2 * 32 * 6 + 6 + 32)
    assert sum(t.numel() for t in found.stored().values()) == trained(found)


def convolutions(model: nn.Module) -> dict[str, Tensor]:
    return {n: p for n, p in model.named_parameters() if p.ndim == 4}


def test_a_parallel_adapter_of_a_convolution_is_the_middle_of_its_kernel() -> None:
    net = NETS["resnet"]
    model, plain = net.make(), net.make()
    attached("adapter:kind=parallel", model)
    for name, kernel in convolutions(plain).items():
        if name != "conv1.weight":
            place = model.get_submodule(name.removesuffix(".weight"))
            alpha = _product(place.get_submodule("adapter.maps"))
            with torch.no_grad():
                kernel[:, :, 1, 1] += alpha
    wanted = answer(plain, net)
    torch.testing.assert_close(answer(model, net), wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize(("kind", "leaves"), [("houlsby", ("conv1", "conv2")), ("pfeiffer", ("conv2",))])
def test_an_adapter_in_series_multiplies_a_kernel(kind: str, leaves: tuple[str, ...]) -> None:
    net = NETS["resnet"]
    model, plain = net.make(), net.make()
    attached(f"adapter:kind={kind},width=3", model)
    for name, kernel in convolutions(plain).items():
        if name != "conv1.weight" and name.split(".")[-2] in leaves:
            alpha = _product(model.get_submodule(f"{name.removesuffix('.weight')}.adapter.maps"))
            with torch.no_grad():
                kernel += torch.einsum("oc,cikl->oikl", alpha, kernel)
    wanted = answer(plain, net)
    torch.testing.assert_close(answer(model, net), wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


def _product(maps: nn.Module) -> Tensor:
    matrices = [p.squeeze(-1).squeeze(-1) for p in maps.parameters()]
    return torch.linalg.multi_dot(matrices[::-1]) if len(matrices) > 1 else matrices[0]


@pytest.mark.parametrize("width", [3, 8, 20, 48])
def test_an_adapter_of_convolutions_takes_the_cheaper_form(width: int) -> None:
    found = attached(f"adapter:kind=houlsby,width={width}", NETS["resnet"].make())
    assert trained(found) == 2 * sum(min(c * c, 2 * c * width) for c in (16, 32, 64))


@pytest.mark.parametrize("family", ["distilbert", "gpt2", "roberta"])
@KINDS
def test_other_families_of_transformers_are_known(family: str, kind: str) -> None:
    model = other(family).eval()
    before = model(tokens()).detach()
    found = methods.attach(methods.parse(f"adapter:kind={kind},width=6"), model, SETTING)
    torch.testing.assert_close(model(tokens()), before)
    assert trained(found) == (2 if kind == "houlsby" else 1) * (2 * 16 * 6 + 6 + 16)
    model(tokens()).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert torch.equal(found.detach()(tokens()), before)


def other(family: str) -> TextModel:
    """Return a network of one layer of 16 of a family."""
    import transformers

    sizes = {
        "distilbert": {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 24},
        "gpt2": {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_inner": 24},
        "roberta": {
            "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24,
            "type_vocab_size": 1,
        },
    }[family]  # fmt: skip
    classes: dict[str, tuple[Any, Any]] = {
        "distilbert": (transformers.DistilBertConfig, transformers.DistilBertModel),
        "gpt2": (transformers.GPT2Config, transformers.GPT2Model),
        "roberta": (transformers.RobertaConfig, transformers.RobertaModel),
    }
    config, cls = classes[family]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.set_state(generator(0, "tests/other").get_state())
        body = cls(config(vocab_size=50, **sizes))
    return TextModel(body, outputs=3, causal=family == "gpt2", generator=generator(0, "tests/head"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("adapter:kind=holsby", "did you mean 'houlsby'"),
        ("adapter:width=0", "at least 1; received 0"),
        ("adapter:width=x", "must be a whole number; received 'x'"),
    ],
)
def test_bad_options_are_one_clear_line(name: str, words: str) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        methods.parse(name)
    assert "\n" not in str(caught.value)


def test_a_refusal_names_what_was_looked_for() -> None:
    with pytest.raises(methods.CannotAttach, match=r"an attention and an MLP.*'conv1' and 'conv2'; received a network"):
        methods.attach(methods.parse("adapter"), NETS["mlp"].make(), SETTING)
