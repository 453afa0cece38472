"""Which parameters each method chooses, and what gates and masks make of them: by name, by hand, by definition."""

from __future__ import annotations

import math

import pytest
import torch
from method_cases import NETS, SETTING, Case, answer, attach, loss_of, train
from torch import nn

from idim import methods
from idim.errors import RequestError
from idim.methods import CannotAttach, Setting
from idim.methods.places import blocks, body_parameters
from idim.methods.specification.diffpruning import AttachedDifference, Gated
from idim.methods.specification.masks import Masked


def chosen(name: str, net: str) -> set[str]:
    attached = methods.attach(methods.parse(name), NETS[net].make(), SETTING)
    return {n for n, p in attached.module.named_parameters() if p.requires_grad and not n.startswith("head.")}


# -- parts --------------------------------------------------------------------------------------------------


def test_bitfit_moves_every_bias_of_a_bert_with_those_of_its_norms() -> None:
    names = chosen("bitfit", "bert")
    inner = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
    inner += ("attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm")
    wanted = {f"body.encoder.layer.{i}.{part}.bias" for i in range(2) for part in inner}
    assert names == wanted | {"body.embeddings.LayerNorm.bias"}


def test_norm_finds_the_layers_that_models_bring_along() -> None:
    layers = ("input_layernorm", "post_attention_layernorm")
    rms = {f"body.layers.{i}.{part}.weight" for i in range(2) for part in layers}
    assert chosen("norm", "llama") == rms | {"body.norm.weight"}
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in chosen("norm", "resnet")} == {"bn1", "bn2"}
    assert len(chosen("norm", "bert")) == 2 * (1 + 2 * 2)


@pytest.mark.parametrize(
    ("net", "k", "first", "last"),
    [
        ("bert", 1, "body.encoder.layer.1.attention.self.query.weight", "body.encoder.layer.1.output.LayerNorm.bias"),
        ("llama", 1, "body.layers.1.self_attn.q_proj.weight", "body.norm.weight"),
        ("resnet", 2, "layer2.0.conv1.weight", "layer3.0.bn2.bias"),
        ("mlp", 1, "5.weight", "5.bias"),
    ],
)
def test_last_moves_from_a_block_to_the_end(net: str, k: int, first: str, last: str) -> None:
    names = list(body_parameters(NETS[net].make()))
    assert chosen(f"last:k={k}", net) == set(names[names.index(first) : names.index(last) + 1])
    assert names[-1] == last


def test_blocks_are_what_repeats() -> None:
    assert [name for name, _ in blocks(NETS["bert"].make())] == ["body.encoder.layer.0", "body.encoder.layer.1"]
    assert [name for name, _ in blocks(NETS["resnet"].make())] == ["layer1.0", "layer2.0", "layer3.0"]
    assert [name for name, _ in blocks(NETS["mlp"].make())] == ["1", "3", "5"]
    nested = nn.Sequential(*(nn.Sequential(nn.Linear(2, 2), nn.ReLU()) for _ in range(3)))
    assert [name for name, _ in blocks(nested)] == ["0.0", "1.0", "2.0"]


@pytest.mark.parametrize(
    ("name", "net", "words"),
    [
        ("last:k=3", "bert", "looks for k = 3 blocks or layers; received a network of 2"),
        ("bitfit", "llama", "parameters named bias; received a network of .*LlamaRMSNorm"),
        ("norm", "mlp", "normalisation layers"),
        ("random_mask:fraction=0.0001", "mlp", "1/0.0001 float parameters or more"),
    ],
)
def test_what_is_not_there_is_said(name: str, net: str, words: str) -> None:
    with pytest.raises(CannotAttach, match=words):
        attach(Case(name=name), NETS[net].make())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("last:k=0", "must be at least 1; received 0"),
        ("random_mask:fraction=1.0", "below 1; received 1.0"),
        ("diffpruning:fraction=0.0", "above 0; received 0.0"),
        ("diffpruning:sparsity=-1.0", "above 0; received -1.0"),
        ("masks:start=0.1,threshold=0.2", "threshold below the start"),
        ("did:d=0", "at least 1; received 0"),
    ],
)
def test_options_out_of_range_are_refused(name: str, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        methods.parse(name)


# -- random mask --------------------------------------------------------------------------------------------


def test_a_random_mask_trains_and_stores_k_numbers_and_changes_as_many() -> None:
    net = NETS["bert"]
    model, base = net.make(), body_parameters(net.make())
    attached = attach(Case(name="random_mask:fraction=0.1"), model)
    k = round(0.1 * sum(p.numel() for p in base.values()))
    own = [p for n, p in attached.module.named_parameters() if p.requires_grad and not n.startswith("head.")]
    assert sum(p.numel() for p in own) == sum(t.numel() for t in attached.stored().values()) == k
    train(attached, net, lr=1e-2)
    tuned = body_parameters(attached.merge())
    assert 0.9 * k < sum(int((tuned[n] != base[n]).sum()) for n in base) <= k
    unseen = base["body.embeddings.position_embeddings.weight"] != tuned["body.embeddings.position_embeddings.weight"]
    assert not unseen[9:].any(), "positions that no text has get no gradient"


# -- diff pruning -------------------------------------------------------------------------------------------


def test_gates_are_drawn_from_the_hard_concrete() -> None:
    gated = Gated(torch.zeros(200_000), False, torch.Generator().manual_seed(0))
    for alpha in (-1.0, 0.0, 2.0):
        gated.w.data.fill_(1)
        gated.alpha.data.fill_(alpha)
        z = gated.train().difference().detach()
        # z > 0 where logistic noise + alpha > log(-l / r) = 0, and z = 1 where it is above log((1 - l) / (r - 1))
        shares = (float((z > 0).double().mean()), float((z == 1).double().mean()))
        wanted = (1 / (1 + math.exp(-alpha)), 1 / (1 + math.exp(math.log(5) - alpha)))
        assert shares == pytest.approx(wanted, abs=5 * 0.5 / math.sqrt(200_000))
        assert float(gated.expected().detach()) == pytest.approx(200_000 * wanted[0], rel=1e-5)
        still = min(1.0, max(0.0, 3 / (1 + math.exp(-alpha)) - 1.5))
        torch.testing.assert_close(gated.eval().difference().detach(), torch.full((200_000,), still))


def test_a_structured_gate_multiplies_those_of_its_tensor() -> None:
    gated = Gated(torch.zeros(4), True, torch.Generator().manual_seed(0)).eval()
    gated.w.data.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    gated.alpha.data.fill_(0.2)
    assert gated.whole is not None
    gated.whole.data.fill_(-0.1)
    inner, outer = (3 / (1 + math.exp(-a)) - 1.5 for a in (0.2, -0.1))
    assert outer < 0
    assert not gated.difference().any()
    gated.whole.data.fill_(0.1)
    outer = 3 / (1 + math.exp(-0.1)) - 1.5
    torch.testing.assert_close(gated.difference().detach(), inner * outer * torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert float(gated.expected().detach()) == pytest.approx(4 / (1 + math.exp(-0.2)) / (1 + math.exp(-0.1)))


@pytest.mark.parametrize("structured", ["true", "false"])
def test_the_difference_has_exactly_its_fraction_and_keeps_the_largest(structured: str) -> None:
    net = NETS["bert"]
    model, base = net.make(), body_parameters(net.make())
    attached = attach(Case(name=f"diffpruning:fraction=0.05,structured={structured},settled=0.0"), model)
    assert isinstance(attached, AttachedDifference)
    train(attached, net, lr=1e-2, steps=2)
    assert not attached.settled
    flat = attached._flat()
    attached.after_step(3)
    assert attached.settled
    k = round(0.05 * sum(p.numel() for p in base.values()))
    kept = attached._flat()
    assert int((kept != 0).sum()) == k
    assert torch.equal(kept[kept != 0], flat[kept != 0])
    assert float(flat[kept == 0].abs().max()) <= float(kept[kept != 0].abs().min())
    assert {n: t.numel() for n, t in attached.stored().items()} == {"places": k, "values": k}
    tuned = body_parameters(attached.merge())
    assert 0.99 * k < sum(int((tuned[n] != base[n]).sum()) for n in base) <= k, "the rounding of a sum may hide some"


def test_fixed_gates_leave_only_what_stays_to_train() -> None:
    net = NETS["mlp"]
    attached = attach(Case(name="diffpruning:fraction=0.2,settled=0.5"), net.make())
    assert isinstance(attached, AttachedDifference)
    assert attached.steps == 1
    assert attached.penalty() is not None
    train(attached, net, lr=1e-2, steps=1)
    first = attached._flat()
    assert attached.settled
    assert attached.penalty() is None
    train(attached, net, lr=1e-2, steps=2)
    assert torch.equal(attached._flat() != 0, first != 0)
    assert not torch.equal(attached._flat(), first)


def test_the_price_of_open_gates_closes_them() -> None:
    net = NETS["mlp"]
    attached = methods.attach(
        methods.parse("diffpruning:sparsity=1.0,structured=false"), net.make(), Setting(seed=0, steps=99)
    )
    assert isinstance(attached, AttachedDifference)
    (alphas, rate) = attached.own_rates()[0]
    assert rate == 0.1
    assert all(bool((alpha == 5).all()) for alpha in alphas)
    attached.module.train()
    plain = nn.functional.cross_entropy(attached.module(net.inputs()), net.targets())
    D = sum(p.numel() for p in attached.bases.values())
    assert float(loss_of(attached, net).detach() - plain.detach()) == pytest.approx(D / (1 + math.exp(-5)), rel=1e-3)
    train(attached, net, lr=1e-3, steps=30)
    assert all(bool((alpha < 3.5).all()) for alpha in alphas)


# -- masks --------------------------------------------------------------------------------------------------


def test_a_mask_multiplies_and_its_gradient_goes_straight_through() -> None:
    base = torch.tensor([[1.0, -2.0], [3.0, 4.0]])
    masked = Masked(base.shape, 0.01, 0.005)
    masked.score.data[0, 1] = 0.005
    assert masked(base).tolist() == [[1.0, 0.0], [3.0, 4.0]]
    (masked(base) * torch.tensor([[1.0, 10.0], [100.0, 1000.0]])).sum().backward()
    assert masked.score.grad is not None
    assert masked.score.grad.tolist() == [[1.0, -20.0], [300.0, 4000.0]]


def test_masks_are_stored_as_bits_and_merge_into_zeros() -> None:
    net = NETS["bert"]
    model, base = net.make(), body_parameters(net.make())
    attached = attach(Case(name="masks"), model)
    names = set(attached.stored())
    assert names == {n for n in base if n.endswith("weight") and "LayerNorm" not in n and "embeddings" not in n}
    train(attached, net, lr=1e-2)
    stored = attached.stored()
    assert sum(t.numel() for t in stored.values()) == sum(math.ceil(base[n].numel() / 8) for n in names)
    tuned = body_parameters(attached.merge())
    for name, tensor in base.items():
        gone = tuned[name] == 0
        assert torch.equal(tuned[name][~gone], tensor[~gone]), "what is there is as it was"
        assert bool(gone.any()) == (name in names)
    assert torch.isfinite(answer(model, net)).all()
