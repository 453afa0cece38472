"""Subspaces under training loops: what an optimizer sees, closures, the command's models, what is refused."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
from subspace_cases import BatchNormNet, LeNet, explicit, generator, mlp, randomised
from torch import Tensor, nn
from torch.func import functional_call

from idim.errors import RequestError
from idim.projections import KINDS, Hadamard
from idim.subspace import Subspace


def blobs() -> tuple[Tensor, Tensor]:
    """Return four well separated classes in 8 dimensions."""
    centres = 3 * torch.randn(4, 8, generator=generator(0))
    labels = torch.arange(64) % 4
    return centres[labels] + torch.randn(64, 8, generator=generator(1)), labels


def loss_of(net: nn.Module) -> Tensor:
    x, y = blobs()
    return nn.functional.cross_entropy(net(x), y)


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop])
def test_a_plain_loop_learns(make: type[torch.optim.Optimizer]) -> None:
    space = Subspace(mlp(8, 16, 4), d=40)
    optimizer = make(space.parameters(), lr=0.3 if make is torch.optim.SGD else 0.1)
    before = loss_of(space).item()
    for _ in range(30):
        optimizer.zero_grad()
        loss_of(space).backward()
        optimizer.step()
    assert loss_of(space).item() < 0.5 * before


def test_lbfgs_closures_reach_the_solution_of_a_linear_problem() -> None:
    X = torch.randn(20, 12, generator=generator(2), dtype=torch.float64)
    space = Subspace(nn.Linear(12, 1, bias=False).double(), projection=Hadamard(D=12, d=12))
    y = X @ torch.ones(12, 1, dtype=torch.float64)
    optimizer = torch.optim.LBFGS(space.parameters(), line_search_fn="strong_wolfe", max_iter=200, tolerance_change=0)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (space(X) - y).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert closure().item() < 1e-12


def test_the_optimizer_sees_z_and_the_trained_tensors() -> None:
    space = Subspace(mlp(8, 16, 4), d=10, train="2.*", exclude="0.bias")
    assert [p.numel() for p in space.parameters()] == [10, 64, 4]
    assert {n for n, p in space.named_parameters() if p.requires_grad} == {"z", "model.2.weight", "model.2.bias"}
    assert space.D == 8 * 16


def test_excluded_tensors_stay_and_are_free_again_when_merged() -> None:
    model = mlp(8, 16, 4)
    space = Subspace(model, d=10, exclude="2.*")
    torch.optim.SGD(space.parameters(), lr=1.0)
    loss_of(space).backward()
    assert all(p.grad is None for n, p in space.named_parameters() if n != "z")
    merged = space.merged()
    assert torch.equal(merged[2].weight, model[2].weight)
    assert all(p.requires_grad for p in merged.parameters())


def test_trained_tensors_get_their_ordinary_gradient() -> None:
    model = mlp(8, 16, 4)
    space = Subspace(model, d=10, train="2.*")
    loss_of(space).backward()
    loss_of(model).backward()
    torch.testing.assert_close(space.model.get_parameter("2.weight").grad, model[2].weight.grad)
    assert space.model.get_parameter("2.weight") is not model[2].weight


@pytest.mark.parametrize(
    ("model", "x"),
    [(LeNet(), torch.zeros(2, 1, 28, 28)), (BatchNormNet(), torch.zeros(2, 1, 8, 8))],
    ids=["lenet", "batch-norm"],
)
def test_convolutional_networks_train_by_name_of_projection(model: nn.Module, x: Tensor) -> None:
    space = Subspace(randomised(model), projection="hadamard", d=20, seed=3)
    space(x + 1).square().mean().backward()
    assert space.z.grad is not None
    assert torch.isfinite(space.z.grad).all()
    assert space.projection == Hadamard(D=space.D, d=20, seed=3)


def test_lenet_has_the_published_size() -> None:
    assert Subspace(LeNet(), d=290).D == 44_426


@pytest.mark.parametrize("name", [*sorted(set(KINDS) - {"basis", "decoder"}), "layerwise:fastfood"])
def test_every_kind_of_projection_by_name(name: str, tmp_path: Path) -> None:
    model = mlp(8, 16, 4).double()
    space = Subspace(model, projection=name, d=12, seed=1)
    with torch.no_grad():
        space.z.add_(0.1 * torch.randn(12, generator=generator(5), dtype=torch.float64))
    x, _ = blobs()
    x = x[:3].double()
    assert torch.autograd.gradcheck(lambda z: functional_call(space, {"z": z.clone()}, (x,)).sum(), space.z)
    space.save(tmp_path)
    again = Subspace.load(tmp_path, model)
    assert again.projection == space.projection
    assert torch.equal(again(x), space(x))


def test_structure_aware_subspaces_spend_one_scale_a_layer() -> None:
    space = Subspace(mlp(8, 16, 4), projection="layerwise", d=12)
    assert space.layout.layers == (8 * 16 + 16, 16 * 4 + 4)
    assert space.z.tolist() == [0.0] * 10 + [1.0] * 2
    x, _ = blobs()
    assert torch.equal(space(x), mlp(8, 16, 4)(x))


def test_seeds_name_projections() -> None:
    x = torch.ones(1, 8)
    spaces = [Subspace(mlp(8, 4), d=5, seed=seed) for seed in (0, 0, 1)]
    for space in spaces:
        space.z.data.fill_(1.0)
    first, again, other = (space(x) for space in spaces)
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_forward_shows_the_signature_of_the_model() -> None:
    space = explicit(LeNet())
    assert inspect.signature(space.forward) == inspect.signature(space.model.forward)


def test_train_and_eval_flags_are_those_of_the_model() -> None:
    assert Subspace(mlp(8, 4), d=2).training
    frozen = mlp(8, 4).eval()
    assert not any(m.training for m in (Subspace(frozen, d=2), Subspace(frozen, d=2).model))


# -- what is refused: one line, with the constraint and the value received ------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"d": 37}, "d must be between 1 and D = 36; received d = 37"),
        ({"d": 0}, "d must be between 1 and D = 36; received d = 0"),
        ({}, "d must be given with a projection's name; received d = None for 'hadamard'"),
        ({"d": 4, "projection": "hadamrd"}, "unknown projection 'hadamrd'; did you mean 'hadamard'?"),
        ({"projection": Hadamard(D=35, d=4)}, "D = 36 rows, as the model; received D = 35"),
        ({"projection": Hadamard(D=36, d=4), "d": 5}, "d must be that of the projection, 4; received d = 5"),
        ({"d": 4, "include": "encoder.*"}, "include pattern 'encoder.*' matches none of 2 parameter names"),
        ({"d": 4, "train": "*"}, "needs at least one float parameter"),
    ],
)
def test_bad_requests(options: dict[str, object], words: str) -> None:
    with pytest.raises(RequestError) as caught:
        Subspace(mlp(8, 4), **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_scripted_models_are_refused() -> None:
    class Scripted(torch.jit.ScriptModule):
        pass

    with pytest.raises(RequestError, match="ordinary Python modules; received a scripted Scripted"):
        Subspace(Scripted(), d=1)
