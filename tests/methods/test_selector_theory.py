"""The methods that choose parameters are subspaces: P is a selector of their rows, and both take the same steps.

The rounding is not the same: a step of the method rounds theta + step, one of the subspace theta0 + (z + step). So they
are held together in float64, and in float32 the two may not be further apart than float32 is from float64.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from method_cases import NETS, Net
from torch import Tensor, nn

from idim import Subspace, methods
from idim.methods import Setting
from idim.methods.places import blocks, body_parameters
from idim.models import resnet
from idim.models.init import generator
from idim.parameters import Layout
from idim.projections import Selector

STEPS, SEED = 20, 5
ROWS = 3
EXACT, ULP, FACTOR = 1e-12, 2.0**-23, 3.0


def residual20() -> nn.Module:
    return resnet.build("resnet20", None, (3, 16, 16), 3, generator(0, "tests/resnet20"))


NET20 = Net(name="resnet20", build=lambda _: residual20(), batch=NETS["resnet"].batch)


def ranges_of(model: nn.Module, inside: Callable[[str, nn.Module], bool]) -> tuple[tuple[int, int], ...]:
    """Return the rows of the parameters of a body that a rule chooses, by name and the module they belong to."""
    layout = Layout.of(body_parameters(model))
    spans = zip(layout.names, layout.offsets, layout.offsets[1:], strict=False)
    chosen = [(a, b) for n, a, b in spans if inside(n, model.get_submodule(n.rpartition(".")[0]))]
    joined: list[tuple[int, int]] = []
    for a, b in chosen:
        joined = [*joined[:-1], (joined[-1][0], b)] if joined and joined[-1][1] == a else [*joined, (a, b)]
    return tuple(joined)


def is_norm(_: str, module: nn.Module) -> bool:
    return "Norm" in type(module).__name__


def is_bias(name: str, _: nn.Module) -> bool:
    return name.endswith("bias")


def in_last(model: nn.Module, k: int) -> Callable[[str, nn.Module], bool]:
    last = tuple(f"{name}." for name, _ in blocks(model)[-k:])
    return lambda name, _: name.startswith(last)


def selector(name: str, model: nn.Module) -> Selector:
    """Return the projection that stands for a method, made without it."""
    D = sum(p.numel() for p in body_parameters(model).values())
    if name.startswith("random_mask"):
        return Selector(D=D, d=round(0.05 * D), seed=SEED)
    rules = {"bitfit": is_bias, "norm": is_norm, "last:k=1": in_last(model, 1), "last": in_last(model, 2)}
    ranges = ranges_of(model, rules[name])
    return Selector(D=D, d=sum(b - a for a, b in ranges), ranges=ranges)


def sgd(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def adam(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Return Adam that does not blow up gradients of pure round-off, as those of the biases of attention's keys."""
    return torch.optim.Adam(parameters, lr=1e-3, eps=1e-5)


Optimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


def trained(module: nn.Module, net: Net, optimizer: Optimizer) -> None:
    """Take the steps of a run: the head directly, everything at one rate."""
    module.train()
    steps, inputs, targets = optimizer([p for p in module.parameters() if p.requires_grad]), net.inputs(), net.targets()
    for _ in range(STEPS):
        steps.zero_grad()
        nn.functional.cross_entropy(module(inputs[:ROWS]), targets[:ROWS]).backward()
        steps.step()


def tensors(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}


NAMES = ["bitfit", "norm", "last:k=1", "last", "random_mask:fraction=0.05"]
IMAGES = [pytest.param(NET20, adam, name, marks=pytest.mark.slow if name in NAMES[1:4] else ()) for name in NAMES]


@pytest.mark.parametrize(
    ("net", "optimizer", "name"),
    [(NETS["bert"], optimizer, name) for optimizer in (sgd, adam) for name in NAMES] + IMAGES,
    ids=lambda value: getattr(value, "name", getattr(value, "__name__", value)),
)
def test_choosing_parameters_is_a_subspace(net: Net, optimizer: Optimizer, name: str) -> None:
    exact = dataclasses.replace(net, dtype=torch.float64)
    reference, same = by_method(name, exact, optimizer), by_selector(name, exact, optimizer)
    assert distance(reference, same) < EXACT
    chosen, inside = by_method(name, net, optimizer), by_selector(name, net, optimizer)
    assert distance(chosen, inside) < FACTOR * distance(chosen, reference) + ULP
    base = tensors(net.make())
    changes = {key: chosen[key] - base[key] for key in body_parameters(net.make())}
    d = selector(name, net.make()).d
    assert max(float(change.abs().max()) for change in changes.values()) > 1e-3
    assert 0.5 * d < sum(int((change != 0).sum()) for change in changes.values()) <= d


def by_method(name: str, net: Net, optimizer: Optimizer) -> dict[str, Tensor]:
    attached = methods.attach(methods.parse(name), net.make(), Setting(seed=SEED, steps=STEPS))
    named = attached.module.named_parameters()
    assert sum(p.numel() for n, p in named if p.requires_grad and "head." not in n) == selector(name, net.make()).d
    trained(attached.module, net, optimizer)
    return tensors(attached.merge())


def by_selector(name: str, net: Net, optimizer: Optimizer) -> dict[str, Tensor]:
    space = Subspace(net.make(), projection=selector(name, net.make()), train="head.*")
    trained(space, net, optimizer)
    return tensors(space.merged())


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Return the largest difference of a number, relative to 1 or to its size where that is larger."""
    assert one.keys() == other.keys()
    pairs = ((one[key].double(), other[key].double()) for key in one)
    return max(float(((a - b).abs() / b.abs().clamp(min=1)).max()) for a, b in pairs)
