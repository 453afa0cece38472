"""The ladder beside a network: its recurrence, and that no gradient and no activation of the large one is kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from method_cases import NETS, SETTING
from torch import Tensor, nn

from idim import methods
from idim.errors import RequestError
from idim.methods import Attached, CannotAttach
from idim.models.init import generator


def attach(name: str, net: str) -> tuple[Any, Attached]:
    model = NETS[net].make()
    return model, methods.attach(methods.parse(name), model, SETTING)


def shaken(model: nn.Module) -> None:
    """Draw all trained numbers, zeros too."""
    draw = generator(5, "tests/ladder")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))


@pytest.mark.parametrize("net", ["bert", "llama"])
def test_a_ladder_of_layers_is_its_recurrence(net: str) -> None:
    model, _ = attach("ladder:reduction=4", net)
    shaken(model)
    side = model.body
    words = torch.randint(1, 50, (2, 5), generator=generator(0, "tests/words"))
    mask = torch.ones_like(words)
    visible = torch.ones(5, 5).tril().bool() if net == "llama" else torch.ones(5, 5).bool()
    states: list[Tensor] = []
    layers = side.inner.layers if net == "llama" else side.inner.encoder.layer
    hooks = [layer.register_forward_hook(lambda _, args, out: states.extend([args[0], out])) for layer in layers]
    with torch.no_grad():
        plain = side.inner(input_ids=words, attention_mask=mask).last_hidden_state
        for hook in hooks:
            hook.remove()
        s = side.first(states[0])
        for rung, h in zip(side.rungs, states[1::2], strict=True):
            mu = 1 / (1 + torch.exp(-rung.gate / 0.1))
            s = layer_by_hand(rung.block, mu * rung.down(h) + (1 - mu) * s, visible)
        found = side(input_ids=words, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(found, plain + side.up(side.norm(s)), rtol=1e-4, atol=1e-5)


def layer_by_hand(block: Any, x: Tensor, visible: Tensor) -> Tensor:
    """Return a pre-norm layer's answer, head by head."""
    queries, keys, values = block.reads(block.norms[0](x)).chunk(3, dim=-1)
    size = x.shape[-1] // block.heads
    parts = []
    for h in range(block.heads):
        cut = slice(h * size, (h + 1) * size)
        scores = queries[..., cut] @ keys[..., cut].transpose(1, 2) / size**0.5
        parts.append(scores.masked_fill(~visible, -torch.inf).softmax(-1) @ values[..., cut])
    x = x + block.mixes(torch.cat(parts, dim=-1))
    answer: Tensor = x + block.mlp(block.norms[1](x))
    return answer


def test_a_ladder_of_a_decoder_sees_nothing_later() -> None:
    model, _ = attach("ladder", "llama")
    shaken(model)
    words = torch.randint(1, 50, (1, 6), generator=generator(0, "tests/words"))
    changed = words.clone()
    changed[0, -1] = (changed[0, -1] + 1) % 50
    with torch.no_grad():
        one, two = (
            model.body(input_ids=w, attention_mask=torch.ones_like(w)).last_hidden_state for w in (words, changed)
        )
    assert torch.equal(one[:, :-1], two[:, :-1])
    assert not torch.equal(one[:, -1], two[:, -1])


def kept(name: str, net: str) -> list[Tensor]:
    """Return the tensors that a training step keeps for its backward pass, but for parameters."""
    model, _ = attach(name, net)
    model.train()
    tensors: list[Tensor] = []
    own = {p.data_ptr() for p in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own:
            tensors.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        model(NETS[net].inputs())
    return tensors


@pytest.mark.parametrize("net", ["bert", "llama"])
def test_the_backward_pass_keeps_no_activation_of_the_large_network(net: str) -> None:
    wide = 64  # the MLP's inner values, which only the large network has
    assert any(wide in t.shape for t in kept("adapter", net))
    assert not any(wide in t.shape for t in kept("ladder:reduction=8", net))


def test_the_backward_pass_keeps_less_of_a_residual_network() -> None:
    ladder, adapter = (sum(t.nbytes for t in kept(name, "resnet")) for name in ("ladder", "adapter"))
    assert ladder < 0.6 * adapter


def test_a_ladder_of_stages_is_its_recurrence() -> None:
    model, _ = attach("ladder", "resnet")
    shaken(model)
    side = model.layer1
    x = torch.randn(2, 16, 8, 8, generator=generator(0, "tests/x"))
    with torch.no_grad():
        s, h, rungs = side.first(x), x, iter(side.rungs)
        for stage in side.stages:
            for block in stage:
                h, rung = block(h), next(rungs)
                if s.shape[-1] != h.shape[-1]:
                    s = nn.functional.avg_pool2d(s, 2)
                width = rung.down.out_channels
                s = torch.cat([s, s.new_zeros(2, width - s.shape[1], *s.shape[2:])], dim=1)
                mu = torch.sigmoid(rung.gate / 0.1)
                s = rung.block(mu * rung.down(h) + (1 - mu) * s)
        torch.testing.assert_close(side(x), h + side.up(s))
        assert model.layer3(x) is x


def test_nothing_else_can_be_trained_inside() -> None:
    model = NETS["bert"].make()
    with pytest.raises(CannotAttach, match="lets no gradient in"):
        methods.attach(methods.parse("ladder+prompt"), model, SETTING)
    assert [n for n, p in model.named_parameters() if p.requires_grad] == ["head.weight", "head.bias"]
    assert type(model.get_submodule("body")).__name__ == "BertModel"


def test_narrower_by_the_reduction() -> None:
    sizes = [sum(p.numel() for p in attach(f"ladder:reduction={r}", "bert")[1].stored().values()) for r in (1, 2, 4, 8)]
    assert sizes == sorted(sizes, reverse=True)
    size = 32 // 8
    layer = 12 * size**2 + 9 * size + 4 * size  # weights, biases, norms
    assert sizes[-1] == 3 * (32 * size + size) + 2 * (layer + 1) + 2 * size + (size * 32 + 32)
    with pytest.raises(RequestError, match="at least 1; received 0"):
        methods.parse("ladder:reduction=0")
