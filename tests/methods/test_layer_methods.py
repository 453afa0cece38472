"""Methods on the weights of layers, each against its definition written out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from method_cases import NETS, Net, answer, train
from torch import Tensor, nn

from idim import methods
from idim.errors import RequestError
from idim.methods import CannotAttach, Setting
from idim.methods.base import Attached
from idim.methods.layers import find
from idim.methods.peft_layers import Layers
from idim.spectral.judgement.judge import judge
from idim.spectral.judgement.matrix_report import MatrixReport
from idim.spectral.pairing.pairs import open_pairs

SETTING = Setting(seed=3, steps=3)
BERT, RESNET = NETS["bert"], NETS["resnet"]
MATRICES = 12  # of the small encoder: four of 32 x 32, one of 64 x 32 and one of 32 x 64 in each of two layers


def attach(name: str, model: nn.Module, setting: Setting = SETTING) -> Layers:
    attached = methods.attach(methods.parse(name), model, setting)
    assert isinstance(attached, Layers)
    return attached


def trained(name: str, net: Net = BERT) -> tuple[Layers, dict[str, Tensor]]:
    """Return a method after three steps on a network, and the base's weights."""
    model = net.make()
    base = {name: p.detach().clone() for name, p in model.named_parameters()}
    attached = attach(name, model)
    train(attached, net, lr=0.02)
    return attached, base


def parts(attached: Layers, *names: str) -> list[list[Tensor]]:
    """Return tensors of peft's layers by their dotted names, for every place."""
    return [[_get(attached.layer(place), name) for name in names] for place in attached.places]


def _get(layer: Any, name: str) -> Tensor:
    found = dict(layer.named_parameters()) | dict(layer.named_buffers())
    return found[name].detach().clone()


def deltas(attached: Layers, base: dict[str, Tensor]) -> list[Tensor]:
    """Return the changes of the weights by merging, for every place."""
    merged = dict(attached.merge().named_parameters())
    return [(merged[f"{p.name}.weight"] - base[f"{p.name}.weight"]).detach() for p in attached.places]


def count(attached: Attached) -> int:
    return sum(p.numel() for n, p in attached.module.named_parameters() if p.requires_grad and not n.startswith("head"))


def ranks(base: dict[str, Tensor], tuned: dict[str, Tensor], names: list[str]) -> list[int | None]:
    pairs = open_pairs({n: base[n] for n in names}, {n: tuned[n].detach() for n in names})
    reports = [judge(pairs.load(name)) for name in pairs.names]
    return [report.rank for report in reports if isinstance(report, MatrixReport)]


@pytest.mark.parametrize("net", [BERT, RESNET], ids=lambda net: net.name)
def test_lora_is_a_scaled_product_of_two_thin_matrices(net: Net) -> None:
    attached, base = trained("lora:rank=4,alpha=6", net)
    thin = parts(attached, "lora_A.default.weight", "lora_B.default.weight")
    for delta, (a, b) in zip(deltas(attached, base), thin, strict=True):
        wanted = 6 / 4 * b.flatten(1) @ a.flatten(1)
        torch.testing.assert_close(delta.flatten(1), wanted, rtol=1e-4, atol=1e-6)


def test_the_rank_of_what_lora_changed_is_its_rank() -> None:
    attached, base = trained("lora:rank=3")
    merged = dict(attached.merge().named_parameters())
    names = [f"{place.name}.weight" for place in attached.places]
    assert ranks(base, merged, names) == [3] * MATRICES
    others = [name for name in base if name not in names and not name.startswith("head")]
    assert all(torch.equal(base[name], merged[name]) for name in others)


def test_lora_counts_what_the_paper_counts() -> None:
    per_layer = 4 * (32 + 32) + 2 * (32 + 64)
    assert count(attach("lora:rank=5", BERT.make())) == 5 * 2 * per_layer
    assert count(attach("lora:rank=5,targets=qv", BERT.make())) == 5 * 2 * 2 * (32 + 32)
    assert count(attach("dora:rank=5", BERT.make())) == 5 * 2 * per_layer + 2 * (5 * 32 + 64)


def test_lora_drops_inputs_of_its_own_in_training_only() -> None:
    model = BERT.make()
    attached = attach("lora:dropout=0.5", model)
    with torch.no_grad():
        for parameter in attached.fresh.values():
            parameter.fill_(0.1)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        model.train()
        assert not torch.equal(model(BERT.inputs()), model(BERT.inputs()))
    assert torch.equal(answer(model, BERT), answer(model, BERT))


@pytest.mark.parametrize("net", [BERT, RESNET], ids=lambda net: net.name)
def test_dora_sets_the_lengths_of_the_rows_of_loras_weight(net: Net) -> None:
    attached, base = trained("dora:rank=4,alpha=6", net)
    pieces = parts(attached, "lora_A.default.weight", "lora_B.default.weight", "lora_magnitude_vector.default.weight")
    names = [f"{place.name}.weight" for place in attached.places]
    for name, delta, (a, b, lengths) in zip(names, deltas(attached, base), pieces, strict=True):
        directions = base[name].flatten(1) + 6 / 4 * b.flatten(1) @ a.flatten(1)
        wanted = lengths.flatten()[:, None] * directions / directions.norm(dim=1, keepdim=True)
        assert not torch.allclose(lengths.flatten(), base[name].flatten(1).norm(dim=1)), "lengths are trained"
        torch.testing.assert_close(delta.flatten(1) + base[name].flatten(1), wanted, rtol=1e-4, atol=1e-6)


def test_vera_scales_two_matrices_that_all_layers_share() -> None:
    attached, base = trained("vera:rank=16")
    assert count(attached) == MATRICES * 16 + 2 * (5 * 32 + 64)
    pieces = parts(attached, "vera_A.default", "vera_B.default", "vera_lambda_b.default", "vera_lambda_d.default")
    first, second = pieces[0][:2]
    assert first.shape == (16, 64)
    assert second.shape == (64, 16)
    assert first.std().item() == pytest.approx(math.sqrt(2 / 64), rel=0.1)
    for delta, (a, b, outer, inner) in zip(deltas(attached, base), pieces, strict=True):
        assert torch.equal(a, first)
        assert torch.equal(b, second)
        m, n = delta.shape
        torch.testing.assert_close(delta, outer.diag() @ b[:m] @ inner.diag() @ a[:, :n], rtol=1e-4, atol=1e-6)


def test_unilora_is_one_vector_through_columns_of_norm_one() -> None:
    attached, base = trained("unilora:d=37,rank=2")
    assert count(attached) == 37
    (vector,) = attached.stored().values()
    pieces = parts(attached, "unilora_indices_A.default", "unilora_indices_B.default")
    used = torch.bincount(torch.cat([indices.flatten() for piece in pieces for indices in piece]), minlength=37)
    assert used.sum() == 2 * 2 * (4 * 64 + 2 * 96)
    assert used.max() - used.min() <= 1
    entries = vector / used.sqrt()
    for delta, (a, b) in zip(deltas(attached, base), pieces, strict=True):
        torch.testing.assert_close(delta, entries[b] @ entries[a], rtol=1e-3, atol=1e-6)


def test_unilora_keeps_its_norms_over_a_rounded_base() -> None:
    attached = attach("unilora:d=37,rank=2", BERT.make().to(torch.bfloat16))
    entries = [torch.cat([t.flatten() for t in piece]) for piece in zip(*parts(
        attached, "unilora_indices_A.default", "unilora_indices_B.default",
        "unilora_scales_A.default", "unilora_scales_B.default",
    ), strict=True)]  # fmt: skip
    squares = torch.zeros(37).index_add_(0, torch.cat(entries[:2]), torch.cat(entries[2:]).square())
    torch.testing.assert_close(squares, torch.ones(37))


def test_unilora_has_no_more_numbers_than_entries() -> None:
    with pytest.raises(RequestError, match="at most 1792, the entries of all A and B of rank 2") as caught:
        attach("unilora:d=1793,rank=2", BERT.make())
    assert "\n" not in str(caught.value)
    assert count(attach("unilora:d=1792,rank=2", BERT.make())) == 1792


@pytest.mark.parametrize(("name", "numbers"), [("tinylora", 13), ("tinylora:d=3,tied=false", 3 * MATRICES)])
def test_tinylora_mixes_between_leading_directions(name: str, numbers: int) -> None:
    attached, base = trained(name)
    assert count(attached) == numbers
    mixed = [attached.layer(place) for place in attached.places]
    mixtures = [layer._compute_R("default").detach() for layer in mixed]
    randoms = [_get(layer, "tinylora_P.default") for layer in mixed]
    vectors = [layer.tinylora_v["default"][layer._tinylora_v_key["default"]].detach() for layer in mixed]
    assert (len({id(v) for v in attached.fresh.values()}) == 1) == ("tied" not in name)
    assert not torch.equal(randoms[0], randoms[1])
    names = [f"{place.name}.weight" for place in attached.places]
    for weight, delta, random, vector, mixture in zip(
        names, deltas(attached, base), randoms, vectors, mixtures, strict=True
    ):
        torch.testing.assert_close(mixture, torch.einsum("i,ijk->jk", vector, random))
        u, s, v = torch.linalg.svd(base[weight], full_matrices=False)
        root = s[:2].sqrt().diag()
        torch.testing.assert_close(delta, u[:, :2] @ root @ mixture @ root @ v[:2], rtol=1e-3, atol=1e-5)


def test_seeds_choose_what_is_random_in_each_method() -> None:
    def random(name: str, part: str, seed: int) -> Tensor:
        attached = attach(name, BERT.make(), Setting(seed=seed, steps=3))
        return _get(attached.layer(attached.places[0]), part)

    for name, part in [
        ("lora", "lora_A.default.weight"),
        ("vera", "vera_A.default"),
        ("unilora", "unilora_indices_A.default"),
        ("tinylora", "tinylora_P.default"),
    ]:
        assert torch.equal(random(name, part, 1), random(name, part, 1)), name
        assert not torch.equal(random(name, part, 1), random(name, part, 2)), name


def test_other_tensors_are_not_restored() -> None:
    attached = attach("lora:rank=2", BERT.make())
    kept = attached.stored()
    name, tensor = next(iter(kept.items()))
    with pytest.raises(RequestError, match=r"of shape \[2, 32\]; received None"):
        attached.restore({n: t for n, t in kept.items() if n != name})
    with pytest.raises(RequestError, match=r"of shape \[2, 32\]; received \[32, 2\]"):
        attached.restore(kept | {name: tensor.T})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lora:rank=0", "'rank' of method 'lora' must be at least 1; received 0"),
        ("lora:alpha=0", "'alpha' of method 'lora' must be a number above 0; received 0.0"),
        ("dora:dropout=1", "'dropout' of method 'dora' must be at least 0 and below 1; received 1.0"),
        ("qlora:targets=qb", "unknown choice of targets 'qb'; Known: all, qv"),
        ("vera:start=nan", "'start' of method 'vera' must be a number above 0; received nan"),
        ("unilora:d=0", "'d' of method 'unilora' must be at least 1"),
        ("tinylora:tied=yes", "must be true or false"),
        ("adalora:begin=8", "'begin' of method 'adalora' must be at least 9; received 8"),
        ("adalora:warmup=0.6", "'warmup . settled' of method 'adalora' must be at least 0 and below 1"),
        ("adalora:orthogonality=-1", "'orthogonality' of method 'adalora' must be at least 0"),
    ],
)
def test_options_out_of_range_are_one_clear_line(name: str, words: str) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        methods.parse(name)
    assert "\n" not in str(caught.value)


class Odd(nn.Module):
    """Layers in unusual positions: one twice, two with one weight, some that are not called."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.set_state(torch.Generator().manual_seed(0).get_state())
            self.once, self.tied, self.twice = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
            self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
        self.tied.weight = self.once.weight
        self.again = self.twice

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.again(torch.tanh(self.twice(self.tied(self.once(x))))))


@pytest.mark.parametrize("name", ["lora:rank=2", "dora:rank=2", "qlora:rank=2"])
@torch.no_grad()
def test_shared_layers_and_weights_stay_right(name: str) -> None:
    model = Odd().eval().requires_grad_(False)
    x = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(1))
    wanted, names = model(x), list(model.state_dict())
    attached = attach(name, model)
    assert [place.names for place in attached.places] == [("once",), ("tied",), ("twice", "again")]
    assert model.twice is model.again
    for i, parameter in enumerate(attached.fresh.values()):
        parameter.add_(0.05 * (i + 1))
    tuned = model(x)
    assert not torch.allclose(tuned, wanted, atol=1e-3)
    attached.merge()
    torch.testing.assert_close(model(x), tuned, rtol=1e-5, atol=1e-5)
    assert list(model.state_dict()) == names
    attached.detach()
    assert torch.equal(model(x), wanted)
    assert model.tied.weight is model.once.weight
    assert model.again is model.twice


def test_layers_that_are_read_instead_of_called_are_left_alone() -> None:
    block = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 1, enable_nested_tensor=False)
    with pytest.raises(CannotAttach, match="looks for linear layers"):
        find("lora", block, ("linear",))


def test_convolutions_that_see_other_pixels_are_left_alone() -> None:
    model = nn.Sequential(
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 4, 3, dilation=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
    )
    with pytest.raises(CannotAttach, match="looks for convolutions"):
        find("lora", model, ("convolution",))


def test_methods_for_linear_layers_refuse_convolutions() -> None:
    with pytest.raises(CannotAttach, match="method 'vera' looks for linear layers or layers of 4 bits"):
        attach("vera", RESNET.make())
    with pytest.raises(CannotAttach, match="named query or value"):
        attach("lora:targets=qv", RESNET.make())


def test_a_transposed_layer_is_the_matrix_it_is() -> None:
    transformers = pytest.importorskip("transformers")
    layer = transformers.pytorch_utils.Conv1D(6, 4)
    model = nn.Sequential(layer)
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    attached = attach("lora:rank=2", model)
    with torch.no_grad():
        for parameter in attached.fresh.values():
            parameter.fill_(0.1)
    tuned = model(x)
    torch.testing.assert_close(tuned, layer(x) + 8.0 * 0.1 * 0.1 * 2 * x.sum(dim=1, keepdim=True).expand(-1, 6))
    torch.testing.assert_close(attached.merge()(x), tuned)


def test_when_peft_refuses_the_network_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    peft = pytest.importorskip("peft")
    model = BERT.make()
    wanted, names = answer(model, BERT), [(n, p.requires_grad) for n, p in model.named_parameters()]
    made = peft.tuners.lora.LoraModel._create_new_module
    calls: list[int] = []

    def fails_later(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) > 3:
            raise ValueError("no more")
        return made(*args, **options)

    monkeypatch.setattr(peft.tuners.lora.LoraModel, "_create_new_module", staticmethod(fails_later))
    with pytest.raises(ValueError, match="no more"):
        methods.parse("lora").attach(model, SETTING)
    assert [(n, p.requires_grad) for n, p in model.named_parameters()] == names
    assert torch.equal(answer(model, BERT), wanted)


@pytest.mark.parametrize(
    "name",
    ["adalora:rank=1,begin=2+adapter+prompt", "qlora:rank=2+prefix", "lora+adapter", "lora+bitfit", "dora+norm+bitfit"],
)
def test_they_stand_beside_other_methods(name: str) -> None:
    model = BERT.make()
    wanted = answer(model, BERT)
    head = {n: t.clone() for n, t in model.head.state_dict().items()}
    attached = methods.attach(methods.parse(name), model, SETTING)
    train(attached, BERT, lr=0.02)
    kept, tuned = {n: t.clone() for n, t in attached.stored().items()}, answer(model, BERT)
    assert len({n.partition(".")[0] for n in kept}) == name.count("+") + 1
    if methods.parse(name).merges:
        torch.testing.assert_close(answer(attached.merge(), BERT), tuned, rtol=1e-5, atol=1e-5)
    attached.detach()
    again = methods.attach(methods.parse(name), model, SETTING)
    again.restore(kept)
    torch.testing.assert_close(answer(model, BERT), tuned, rtol=1e-5, atol=1e-5)
    again.detach()
    model.head.load_state_dict(head)
    assert torch.equal(answer(model, BERT), wanted)


def test_two_of_them_have_no_room_in_one_place() -> None:
    model = BERT.make()
    wanted = answer(model, BERT)
    with pytest.raises(CannotAttach, match="method 'vera' looks for linear layers"):
        methods.attach(methods.parse("lora+vera"), model, SETTING)
    assert torch.equal(answer(model, BERT), wanted)
