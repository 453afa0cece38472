"""What every method promises, asked of each on each network (the tables are in ``method_cases``)."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from method_cases import CASES, NETS, Case, Net, answer, attach, loss_of, train
from torch import Tensor, nn

from idim import methods, models
from idim.errors import RequestError
from idim.methods import Attached, CannotAttach
from idim.methods.places import blocks, body_parameters, in_head

QUICK = ("bert",)  # the others are asked by name: pytest -m slow


def _pairs(which: Callable[[Case], bool] = lambda _: True) -> list[Any]:
    chosen = [case for case in CASES if which(case)]
    return [
        pytest.param(case, NETS[name], id=f"{case.name}-{name}", marks=() if name in QUICK else pytest.mark.slow)
        for case in chosen
        for name in case.applies
    ]


REFUSED = [
    pytest.param(case, net, id=f"{case.name}-{net.name}")
    for case in CASES
    for net in NETS.values()
    if net.name not in case.applies
]
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
on_pairs = pytest.mark.parametrize(("case", "net"), _pairs())


def test_every_method_has_a_case() -> None:
    assert {methods.parse(case.name).name for case in CASES} >= methods.METHODS.keys()


@pytest.mark.parametrize("name", sorted(methods.METHODS))
def test_every_method_says_where_it_is_from(name: str) -> None:
    cls = methods.METHODS[name]
    assert cls.name == name
    assert cls.group in ("full", "addition", "specification", "reparameterisation")
    assert len(cls.source) > 10
    assert cls.__doc__


def frame(model: nn.Module) -> dict[str, object]:
    """Return what a network is made of but for its numbers: classes, names, shapes, dtypes, hooks."""
    kinds = {name: type(module) for name, module in model.named_modules()}
    tensors = {name: (t.shape, t.dtype) for name, t in model.state_dict(keep_vars=True).items()}
    hooks = {name: [len(getattr(m, hook)) for hook in HOOKS] for name, m in model.named_modules()}
    forwards = {name: "forward" in vars(m) for name, m in model.named_modules()}
    return {"kinds": kinds, "tensors": tensors, "hooks": hooks, "forwards": forwards}


def numbers(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of the parameters of the body."""
    return {name: p.detach().clone() for name, p in body_parameters(model).items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def statistics_back(model: nn.Module, before: nn.Module) -> None:
    """Undo what forward passes in train mode did to running statistics: no method's business."""
    own = dict(model.named_buffers())
    for name, buffer in before.named_buffers():
        own[name].copy_(buffer)


def fresh(attached: Attached, model: nn.Module) -> dict[str, nn.Parameter]:
    """Return trained parameters that are neither the base's own nor the head's."""
    named = {name for name, _ in model.named_parameters()}
    return {n: p for n, p in attached.module.named_parameters() if p.requires_grad and n not in named}


@on_pairs
def test_the_start_is_the_base(case: Case, net: Net) -> None:
    model = net.make()
    wanted = answer(model, net)
    attached = attach(case, model)
    if case.starts_at_base:
        torch.testing.assert_close(answer(attached.module, net), wanted, rtol=case.tolerance, atol=case.tolerance)
    assert torch.isfinite(answer(attached.module, net)).all()


@on_pairs
def test_it_trains_with_dropout(case: Case, net: Net) -> None:
    attached = attach(case, net.make(dropout=0.2))
    before = answer(attached.module, net)
    losses = train(attached, net, lr=case.lr)
    assert all(torch.isfinite(torch.tensor(losses)))
    after = answer(attached.module, net)
    assert torch.isfinite(after).all()
    assert not torch.equal(before, after)
    assert torch.equal(after, answer(attached.module, net)), "eval mode draws nothing"


@on_pairs
def test_gradients_reach_what_is_trained_and_nothing_else(case: Case, net: Net) -> None:
    attached = attach(case, net.make())
    attached.module.train()
    loss = loss_of(attached, net)
    if loss.requires_grad:  # nothing is trained in a probe of a network without a head
        loss.backward()
    for name, parameter in attached.module.named_parameters():
        assert parameter.requires_grad or parameter.grad is None, name
        assert not (parameter.requires_grad and parameter.grad is None), f"{name} is trained and plays no part"


@pytest.mark.parametrize(("case", "net"), _pairs(lambda case: methods.parse(case.name).group == "addition"))
def test_addition_leaves_the_base_alone(case: Case, net: Net) -> None:
    model = net.make()
    base = {id(p): (name, p, p.detach().clone()) for name, p in body_parameters(model).items()}
    attached = attach(case, model)
    train(attached, net, lr=case.lr)
    held = {id(p) for p in attached.module.parameters()}
    for key, (name, parameter, value) in base.items():
        assert key in held, f"{name} is no longer there"
        assert torch.equal(parameter, value), name


@on_pairs
def test_merging_gives_the_same_answers_under_the_same_names(case: Case, net: Net) -> None:
    model = net.make()
    before = frame(copy.deepcopy(model))
    method, attached = methods.parse(case.name), attach(case, model)
    train(attached, net, lr=case.lr)
    wanted = answer(attached.module, net)
    if not method.merges:
        with pytest.raises(RequestError, match="cannot be merged"):
            attached.merge()
        return
    merged = attached.merge()
    torch.testing.assert_close(answer(merged, net), wanted, rtol=case.tolerance, atol=case.tolerance)
    assert frame(merged) == before


@on_pairs
@pytest.mark.parametrize("trained", [False, True])
def test_taking_it_off_gives_the_base_back_bit_for_bit(case: Case, net: Net, trained: bool) -> None:
    model = net.make()
    before, values = copy.deepcopy(model), numbers(model)
    wanted, made_of = answer(model, net), frame(before)
    attached = attach(case, model)
    if trained:
        train(attached, net, lr=case.lr)
        answer(attached.module, net)
    plain = attached.detach()
    assert plain is model
    assert frame(plain) == made_of
    assert equal(numbers(plain), values)
    assert not any(p.requires_grad for p in body_parameters(plain).values())
    statistics_back(plain, before)
    if models.has_head(plain):
        assert trained == (not torch.equal(plain.get_parameter("head.weight"), before.get_parameter("head.weight")))
        plain.get_submodule(models.HEAD).load_state_dict(before.get_submodule(models.HEAD).state_dict())
    assert torch.equal(answer(plain, net), wanted)


@pytest.mark.parametrize(("case", "net"), REFUSED)
def test_where_it_has_no_place_it_says_what_it_looked_for(case: Case, net: Net) -> None:
    model = net.make()
    before, values, wanted = frame(copy.deepcopy(model)), numbers(model), answer(model, net)
    with pytest.raises(CannotAttach, match=r"received") as caught:
        attach(case, model)
    assert "\n" not in str(caught.value)
    assert frame(model) == before
    assert equal(numbers(model), values)
    assert torch.equal(answer(model, net), wanted)


@on_pairs
def test_what_is_stored_is_enough(case: Case, net: Net) -> None:
    model = net.make()
    attached = attach(case, model)
    train(attached, net, lr=case.lr)
    kept = {name: tensor.detach().clone() for name, tensor in attached.stored().items()}
    assert not any(in_head(name) for name in kept)
    wanted = answer(attached.module, net)
    again = net.make()
    other = attach(case, again)
    other.restore(kept)
    trained = {n.removeprefix("model."): t for n, t in attached.module.state_dict().items()}
    with torch.no_grad():  # the head and running statistics are kept beside a method
        for name in [*dict(again.named_parameters()), *dict(again.named_buffers())]:
            if in_head(name) or name.endswith(("running_mean", "running_var")):
                _put(other.module, name, trained[name])
    torch.testing.assert_close(answer(other.module, net), wanted, rtol=case.tolerance, atol=case.tolerance)


def _put(module: nn.Module, name: str, value: Tensor) -> None:
    own = module.state_dict()
    own[name if name in own else f"model.{name}"].copy_(value)


@on_pairs
def test_the_same_seed_gives_the_same_training(case: Case, net: Net) -> None:
    def trained(junk: int) -> list[Tensor]:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.set_state(torch.Generator().manual_seed(junk).get_state())
            attached = attach(case, net.make())
        train(attached, net, lr=case.lr)
        return [p.detach() for p in attached.module.parameters() if p.requires_grad]

    state = torch.default_generator.get_state()
    one = trained(1)
    assert torch.equal(torch.default_generator.get_state(), state), "the global generator was moved"
    assert all(torch.equal(a, b) for a, b in zip(one, trained(2), strict=True))


@pytest.mark.parametrize(("case", "net"), _pairs(lambda case: case.halves))
def test_a_rounded_base_is_taken(case: Case, net: Net) -> None:
    net = dataclasses.replace(net, dtype=torch.bfloat16)
    model = net.make()
    attached = attach(case, model)
    for name, parameter in fresh(attached, net.make()).items():
        assert parameter.dtype == torch.float32 or not parameter.is_floating_point(), name
    before = answer(attached.module, net)
    losses = train(attached, net, lr=case.lr)
    assert all(torch.isfinite(torch.tensor(losses)))
    after = answer(attached.module, net)
    assert not torch.equal(before, after) or not any(p.requires_grad for p in attached.module.parameters())
    if methods.parse(case.name).merges:
        merged = attached.merge()
        assert {p.dtype for p in body_parameters(merged).values()} == {torch.bfloat16}
        assert torch.isfinite(answer(merged, net)).all()


@on_pairs
def test_back_propagation_passes_through_or_not_as_it_says(case: Case, net: Net) -> None:
    model = net.make()
    attached = attach(case, model)
    seen: list[bool] = []
    first = _inside(attached, blocks(model)[0][0])
    handle = first.register_forward_hook(lambda _, __, out: seen.append(_wants_gradient(out)))
    attached.module.train()
    attached.module(net.inputs())
    handle.remove()
    assert any(seen) == methods.parse(case.name).through


def _inside(attached: Attached, name: str) -> nn.Module:
    modules = dict(attached.module.named_modules())
    return modules[name if name in modules else f"model.{name}"]


def _wants_gradient(out: object) -> bool:
    return any(t.requires_grad for t in _tensors(out))


def _tensors(out: object) -> Iterator[Tensor]:
    if isinstance(out, Tensor):
        yield out
    elif isinstance(out, tuple | list):
        for part in out:
            yield from _tensors(part)
