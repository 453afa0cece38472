"""DID and SAID as methods: the same subspaces as those of runs, around a network that waits unchanged."""

from __future__ import annotations

import pytest
import torch
from method_cases import NETS, SETTING, Case, answer, attach, train

from idim import Subspace, methods
from idim.methods import CannotAttach
from idim.methods.places import body_parameters


@pytest.mark.parametrize(
    ("name", "projection"),
    [("did:d=40", "hadamard"), ("said:d=40", "layerwise:hadamard"), ("did:d=40,projection=dense", "dense")],
)
def test_a_method_is_the_subspace_of_its_name(name: str, projection: str) -> None:
    net = NETS["bert"]
    attached = attach(Case(name=name), net.make())
    space = Subspace(net.make(), projection=projection, d=40, seed=SETTING.seed, train="head.*")
    assert attached.module.projection.spec == space.projection.spec  # type: ignore[union-attr]
    assert {n for n, p in attached.module.named_parameters() if p.requires_grad} == {
        "z", "model.head.weight", "model.head.bias",
    }  # fmt: skip
    with torch.no_grad():
        for module in (attached.module, space):
            module.z.add_(torch.linspace(-1, 1, 40))  # type: ignore[operator, union-attr]
    assert torch.equal(answer(attached.module, net), answer(space, net))
    assert [tuple(t.shape) for t in attached.stored().values()] == [(40,)]


def test_the_network_waits_unchanged_and_gets_the_head() -> None:
    net = NETS["bert"]
    model, base = net.make(), body_parameters(net.make())
    attached = attach(Case(name="did:d=40"), model)
    train(attached, net, lr=1e-2)
    assert all(torch.equal(p, base[n]) for n, p in body_parameters(model).items())
    assert attached.merge() is not model
    assert attached.detach() is model
    assert torch.equal(model.head.weight, attached.module.model.head.weight)  # type: ignore[union-attr]


def test_a_frozen_head_stays_frozen() -> None:
    net = NETS["bert"]
    model = net.make()
    model.head.requires_grad_(False)  # type: ignore[union-attr]
    attached = attach(Case(name="said:d=40"), model)
    assert {n for n, p in attached.module.named_parameters() if p.requires_grad} == {"z"}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("did:d=100000000", "d must be between 1 and D = "),
        ("said:d=2", "method 'said' has no place here: .*layers"),
        ("did:projection=hadamrd", "unknown projection 'hadamrd'; did you mean 'hadamard'"),
    ],
)
def test_a_subspace_that_cannot_be_is_said_and_leaves_the_network_alone(name: str, words: str) -> None:
    model = NETS["bert"].make()
    with pytest.raises(CannotAttach, match=words):
        methods.attach(methods.parse(name), model, SETTING)
    assert not any(p.requires_grad for p in body_parameters(model).values())


@pytest.mark.parametrize("name", ["did:d=40", "said:d=40"])
def test_the_network_and_the_subspace_share_one_theta0(name: str) -> None:
    """A second copy of the weights would be memory that the method does not need."""
    net = NETS["bert"]
    model = net.make()
    space = attach(Case(name=name), model).module
    assert isinstance(space, Subspace)
    held = {flat.untyped_storage().data_ptr() for flat in space.theta0}
    inside = {n: p for n, p in body_parameters(model).items() if p.is_floating_point()}
    assert inside
    assert all(p.untyped_storage().data_ptr() in held for p in inside.values())
