"""Every kind of module at theta0 + P z answers and differentiates as its copy with theta written in."""

from __future__ import annotations

import copy

import pytest
import torch
from subspace_cases import MODELS, Make, by_hand, explicit, gradient_by_hand, randomised, shifted
from torch import Tensor, nn

CASES = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


@CASES
def test_output_is_that_of_the_model_with_theta(make: Make) -> None:
    model, x = make()
    space = shifted(explicit(model))
    torch.testing.assert_close(space(x), by_hand(space, model)(x))


@CASES
def test_zero_coordinates_are_the_original(make: Make) -> None:
    model, x = make()
    assert torch.equal(explicit(model)(x), model(x))


@CASES
def test_gradient_is_the_projected_full_gradient(make: Make) -> None:
    model, x = make()
    space = shifted(explicit(model))
    reference = by_hand(space, model)
    space(x).square().sum().backward()
    reference(x).square().sum().backward()
    assert space.z.grad is not None
    torch.testing.assert_close(space.z.grad.double(), gradient_by_hand(space, reference), rtol=1e-4, atol=1e-6)


@CASES
def test_the_model_is_not_changed(make: Make) -> None:
    model, x = make()
    before = copy.deepcopy(model.state_dict())
    flags = [p.requires_grad for p in model.parameters()]
    space = shifted(explicit(model))
    optimizer = torch.optim.SGD(space.parameters(), lr=0.1)
    for _ in range(2):
        space(x).square().sum().backward()
        optimizer.step()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == flags
    assert all(p.grad is None for p in model.parameters())


@CASES
def test_merged_is_an_ordinary_model(make: Make) -> None:
    model, x = make()
    space = shifted(explicit(model))
    space(x)
    merged = space.merged()
    assert type(merged) is type(model)
    assert [n for n, _ in merged.named_parameters()] == [n for n, _ in model.named_parameters()]
    assert list(merged.state_dict()) == list(model.state_dict())
    assert torch.equal(merged(x), space(x))
    assert all(p.is_leaf and p.requires_grad for p in merged.parameters())
    merged.load_state_dict(model.state_dict())
    assert torch.equal(merged(x), model(x))
    assert not torch.equal(space(x), model(x))


@CASES
def test_a_deep_copy_stands_alone(make: Make) -> None:
    model, x = make()
    space = shifted(explicit(model))
    space(x)
    twin = copy.deepcopy(space)
    assert torch.equal(twin(x), space(x))
    mine = space(x).detach().clone()
    shifted(twin, seed=9)(x).square().sum().backward()
    assert space.z.grad is None
    assert torch.equal(space(x), mine)
    assert not torch.equal(twin(x), mine)


@CASES
def test_a_moved_dtype_reaches_everything(make: Make) -> None:
    model, x = make()
    space = shifted(explicit(model))
    space(x)
    space.double()
    x = x.double() if x.is_floating_point() else x
    torch.testing.assert_close(space(x), by_hand(space, model.double())(x))
    space(x).square().sum().backward()
    assert space.z.grad is not None
    assert space.z.grad.dtype == torch.float64


def test_half_precision_rounds_the_model_and_not_z() -> None:
    model, x = MODELS["mlp"]()
    space = shifted(explicit(model)).to(torch.bfloat16)
    out = space(x.bfloat16())
    out.float().square().sum().backward()
    assert out.dtype == torch.bfloat16
    assert space.z.dtype == space.z.grad.dtype == torch.float32
    assert all(t.dtype == torch.bfloat16 for t in space.theta().values())
    base = copy.deepcopy(model).bfloat16()
    for name, tensor in by_hand(space, base.float()).named_parameters():
        assert torch.equal(space.theta()[name], tensor.bfloat16())


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4).bfloat16(), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x).bfloat16()).float())


def test_mixed_dtypes_keep_each_its_own() -> None:
    model = randomised(Mixed())
    space = shifted(explicit(model))
    assert [t.dtype for t in space.theta0] == [torch.float32, torch.bfloat16, torch.float32]
    x = torch.ones(3, 4)
    reference = by_hand(space, model)
    torch.testing.assert_close(space(x), reference(x), rtol=2e-2, atol=2e-2)
    space(x).sum().backward()
    reference(x).sum().backward()
    torch.testing.assert_close(space.z.grad.double(), gradient_by_hand(space, reference), rtol=2e-2, atol=2e-2)
    assert {n: t.dtype for n, t in space.theta().items()} == {n: p.dtype for n, p in model.named_parameters()}
