"""Prompts and prefixes against what they stand for: words before a text, and keys and values before its own."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from method_cases import NETS, SETTING, answer, tokens
from torch import Tensor, nn

from idim import methods
from idim.errors import RequestError
from idim.methods import Attached
from idim.models.init import generator
from idim.models.language import PADDING
from idim.models.next_token import NextToken

TEXTS = pytest.mark.parametrize("net", ["bert", "llama"])
WORDS = torch.tensor([7, 3, 11])
ALL = ("prompt:length=3", "ptuning:length=3", "ptuning:length=3,encoder=mlp", "prefix:length=3,width=8", "ptuning2")


def attach(name: str, model: nn.Module) -> Attached:
    return methods.attach(methods.parse(name), model, SETTING)


def inputs(rows: Tensor) -> dict[str, Tensor]:
    """Return a batch as a transformer takes it."""
    rows = rows.long()
    return {"input_ids": rows[..., 0].clamp(min=0), "attention_mask": (rows[..., 0] != PADDING).long()}


@TEXTS
def test_a_prompt_of_words_is_read_as_words(net: str) -> None:
    model: Any = NETS[net].make()
    plain = copy.deepcopy(model.body)
    found = attach("prompt:length=3", model)
    found.restore({name: plain.get_input_embeddings().weight[WORDS] for name in found.stored()})
    rows = inputs(tokens())
    before = {"input_ids": WORDS.expand(len(tokens()), -1), "attention_mask": torch.ones(len(tokens()), 3).long()}
    longer = {name: torch.cat([before[name], rows[name]], dim=1) for name in rows}
    with torch.no_grad():
        wanted = plain(**longer).last_hidden_state[:, 3:]
        torch.testing.assert_close(model.body(**rows).last_hidden_state, wanted, rtol=1e-5, atol=1e-5)


@TEXTS
def test_a_prompt_starts_as_words_of_the_vocabulary(net: str) -> None:
    model: Any = NETS[net].make()
    words = model.body.get_input_embeddings().weight.detach()
    (prompt,) = attach("prompt:length=5", model).stored().values()
    assert all((row == words).all(dim=1).any() for row in prompt)


@TEXTS
@pytest.mark.parametrize("name", [*ALL, "ladder", "adapter", "prefix:width=8+prompt:length=2+adapter:width=4"])
def test_padding_is_not_seen(net: str, name: str) -> None:
    model = NETS[net].make()
    found = attach(name, model)
    draw = generator(1, "tests/prompts")
    with torch.no_grad():
        for parameter in found.module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=draw))
    together = answer(model, NETS[net])
    rows = tokens()
    with torch.no_grad():
        alone = torch.cat([model(row[: int((row[:, 0] != PADDING).sum())].unsqueeze(0)) for row in rows])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@TEXTS
def test_two_prompts_stand_one_before_the_other(net: str) -> None:
    model, other = NETS[net].make(), NETS[net].make()
    found = attach("prompt:length=2+ptuning:length=3", model)
    one, two = found.stored().values()
    again = attach("prompt:length=5", other)
    again.restore({name: torch.cat([two, one]) for name in again.stored()})
    torch.testing.assert_close(answer(model, NETS[net]), answer(other, NETS[net]))
    found.detach()
    assert torch.equal(answer(model, NETS[net]), answer(NETS[net].make(), NETS[net]))


@TEXTS
def test_a_prompt_that_does_not_fit_says_what_does(net: str) -> None:
    model = NETS[net].make()
    attach("prompt:length=25", model)
    with pytest.raises(RequestError, match="32 positions; received 25 and 8: cut texts after 7 tokens"):
        model(tokens())


@pytest.mark.parametrize("encoder", ["lstm", "mlp"])
def test_only_the_prompt_remains_of_its_encoder(encoder: str) -> None:
    net = NETS["bert"]
    one, other = net.make(), net.make()
    found = attach(f"ptuning:length=4,encoder={encoder}", one)
    assert {name: list(t.shape) for name, t in found.stored().items()} == {"prompt": [4, 32]}
    again = methods.attach(
        methods.parse(f"ptuning:length=4,encoder={encoder}"), other, methods.Setting(seed=9, steps=1)
    )
    assert not torch.equal(answer(other, net), answer(one, net))
    again.restore(found.stored())
    assert torch.equal(answer(other, net), answer(one, net))
    assert sum(p.numel() for p in other.parameters() if p.requires_grad) == 4 * 32 + 3 * 33  # and the head


def by_hand(attention: Any, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Return softmax(Q [P_K; K]^T / sqrt(h)) [P_V; V] of an attention layer of BERT, head by head."""
    heads, size = attention.num_attention_heads, attention.attention_head_size
    answers = []
    for row, visible in zip(x, mask, strict=True):
        k, v = torch.cat([keys, attention.key(row)]), torch.cat([values, attention.value(row)])
        q, seen = attention.query(row), torch.cat([torch.ones(len(keys)), visible]).bool()
        parts = []
        for h in range(heads):
            cut = slice(h * size, (h + 1) * size)
            scores = (q[:, cut] @ k[:, cut].T / size**0.5).masked_fill(~seen, -torch.inf)
            parts.append(scores.softmax(dim=1) @ v[:, cut])
        answers.append(torch.cat(parts, dim=1))
    return torch.stack(answers)


@pytest.mark.parametrize("name", ["prefix:length=3,width=8", "ptuning2:length=3"])
@pytest.mark.parametrize("kind", ["sdpa", "eager"])
def test_attention_with_prefixes_is_its_equation(name: str, kind: str) -> None:
    model: Any = NETS["bert"].make()
    model.body.config._attn_implementation = kind
    found = attach(name, model)
    place = "body.encoder.layer.1.attention.self"
    keys, values = found.stored()[place].mul(9).chunk(2, dim=1)
    found.restore({n: 9 * t for n, t in found.stored().items()})
    seen: dict[str, Tensor] = {}
    layer = model.get_submodule(place)
    layer.register_forward_hook(lambda _, args, out: seen.update(x=args[0], answer=out[0]))
    rows = inputs(tokens())
    with torch.no_grad():
        model.body(**rows)
        wanted = by_hand(layer.inner, seen["x"], keys, values, rows["attention_mask"])
    real = rows["attention_mask"].bool()
    torch.testing.assert_close(seen["answer"][real], wanted[real], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("cached", [True, False])
def test_prefixes_of_a_decoder_are_a_cache_filled_beforehand(padded: bool, cached: bool) -> None:
    from transformers import DynamicCache

    model: Any = NETS["llama"].make()
    plain = copy.deepcopy(model.body)
    found = attach("ptuning2:length=3", model)
    found.restore({n: 30 * t for n, t in found.stored().items()})
    rows = inputs(tokens() if padded else tokens()[:, :3])
    n, length = rows["input_ids"].shape
    cache = DynamicCache(config=plain.config)
    for i, prefix in enumerate(found.stored().values()):
        keys, values = (p.unflatten(1, (2, 8)).transpose(0, 1).expand(n, -1, -1, -1) for p in prefix.chunk(2, dim=1))
        cache.update(keys, values, i)
    mask = torch.cat([torch.ones(n, 3).long(), rows["attention_mask"]], dim=1)
    positions = torch.arange(length).expand(n, -1)
    with torch.no_grad():
        wanted = plain(rows["input_ids"], attention_mask=mask, position_ids=positions, past_key_values=cache)
        ours = model.body(**rows, use_cache=cached).last_hidden_state
        without = plain(**rows).last_hidden_state
    real = rows["attention_mask"].bool()
    torch.testing.assert_close(ours[real], wanted.last_hidden_state[real], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(ours[real], without[real], rtol=1e-2)


def test_a_decoder_with_prefixes_goes_on_from_its_cache() -> None:
    model: Any = NETS["llama"].make()
    found = attach("prefix:length=3,width=8", model)
    found.restore({n: 3 * t for n, t in found.stored().items()})
    words = torch.randint(1, 50, (2, 6), generator=generator(4, "tests/words"))
    with torch.no_grad():
        whole = model.body(words).last_hidden_state
        first = model.body(words[:, :4], use_cache=True)
        rest = model.body(words[:, 4:], past_key_values=first.past_key_values).last_hidden_state
        last = model.body(words[:, :5], use_cache=True)
        one = model.body(words[:, 5:], past_key_values=last.past_key_values).last_hidden_state
    torch.testing.assert_close(rest, whole[:, 4:], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(one, whole[:, 5:], rtol=1e-4, atol=1e-5)


def test_so_many_numbers_are_trained_and_kept() -> None:
    def counts(name: str) -> tuple[int, int]:
        model = NETS["llama"].make()
        found = attach(name, model)
        trained = sum(p.numel() for n, p in model.named_parameters() if p.requires_grad and not n.startswith("head."))
        return trained, sum(t.numel() for t in found.stored().values())

    size, layers = 16, 2  # two heads of keys, of 8
    assert counts("ptuning2:length=3") == (layers * 3 * 2 * size, layers * 3 * 2 * size)
    trunk, branch = 3 * size + (size + 1) * 8, (8 + 1) * 2 * size
    assert counts("prefix:length=3,width=8") == (trunk + layers * branch, layers * 3 * 2 * size)
    assert counts("prompt:length=3") == (3 * 32, 3 * 32)
    assert counts("ptuning:length=3,encoder=mlp") == (3 * 32 + 2 * 33 * 32, 3 * 32)


def test_an_attention_function_without_masks_is_refused() -> None:
    model: Any = NETS["bert"].make()
    attach("ptuning2", model)
    model.body.config._attn_implementation = "flash_attention_2"
    with pytest.raises(RequestError, match="eager or sdpa; received 'flash_attention_2'"):
        model.get_submodule("body.encoder.layer.0.attention.self")(torch.zeros(1, 2, 32))


@pytest.mark.parametrize("name", ["prompt:length=3", "prefix:length=3,width=8", "ladder", "adapter:width=4"])
def test_decoders_with_their_own_output_layer_are_taken(name: str) -> None:
    from transformers import LlamaForCausalLM

    config = NETS["llama"].make().get_submodule("body").config
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.set_state(generator(0, "tests/lm").get_state())
        model = NextToken(LlamaForCausalLM(config)).eval()  # type: ignore[arg-type]
    rows = tokens()
    before = model(rows).detach()
    found = attach(name, model)
    start = model(rows)
    assert torch.allclose(start, before, rtol=1e-4) == (name.partition(":")[0] in ("ladder", "adapter"))
    start.sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert torch.equal(found.detach()(rows), before)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("prompt:length=0", "at least 1; received 0"),
        ("ptuning:encoder=gru", "unknown encoder of method 'ptuning' 'gru'"),
        ("prefix:width=0", "'width' of method 'prefix' must be at least 1"),
        ("ptuning2:length=-3", "at least 1; received -3"),
    ],
)
def test_bad_options_are_one_clear_line(name: str, words: str) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        methods.parse(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "words"), [("prompt", "input embeddings"), ("prefix", "'key' and 'value'")])
def test_images_are_refused(name: str, words: str) -> None:
    with pytest.raises(methods.CannotAttach, match=f"{words}.*received a network of .*Conv2d"):
        attach(name, NETS["resnet"].make())
