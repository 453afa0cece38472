"""The graph from theta to z: exact, reusable, never silently stale, and light on memory."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from subspace_cases import Explicit, by_hand, explicit, generator, gradient_by_hand, mlp, shifted
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from idim.errors import RequestError
from idim.parameters import Layout
from idim.projections import Projection
from idim.subspace import Subspace
from idim.subspace.graph import groups_of
from idim.subspace.theta import Theta


@pytest.fixture
def x() -> Tensor:
    return torch.randn(4, 5, generator=generator(1))


@pytest.fixture
def space() -> Subspace:
    return shifted(explicit(mlp(5, 7, 6, 3)))


def of_z(space: Subspace, x: Tensor) -> Any:
    return lambda z: functional_call(space, {"z": z.clone()}, (x,)).tanh().sum()


def test_gradient_agrees_with_finite_differences(space: Subspace, x: Tensor) -> None:
    assert torch.autograd.gradcheck(of_z(space.double(), x.double()), space.z)


def test_second_gradient_agrees_with_finite_differences(space: Subspace, x: Tensor) -> None:
    assert torch.autograd.gradgradcheck(of_z(space.double(), x.double()), space.z)


def test_hessian_is_the_projected_hessian(x: Tensor) -> None:
    model = mlp(2, 2, 1).double()
    space = explicit(model, d=3)
    theta0, P, x = space.theta0[0].detach(), space.projection.to_dense(), x[:, :2].double()

    def full(theta: Tensor) -> Tensor:
        return functional_call(model, space.layout.unflatten([theta]), (x,)).tanh().sum()

    expected = P.T @ torch.autograd.functional.hessian(full, theta0) @ P
    torch.testing.assert_close(torch.autograd.functional.hessian(of_z(space, x), space.z), expected)


@dataclass(frozen=True, kw_only=True)
class Scaled(Explicit):
    """Not linear: coordinates [z, lambda] give lambda times P z, as structure-aware subspaces do."""

    kind = "scaled"
    linear = False

    @property
    def matrix(self) -> Tensor:
        return Explicit(D=self.D, d=self.d - 1, seed=self.seed).matrix

    def initial(self, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.cat([torch.zeros(self.d - 1, dtype=dtype), torch.ones(1, dtype=dtype)])

    def _lift(self, z: Tensor, start: int, out: Tensor, base: Tensor | None) -> None:
        super()._lift(z[:-1] * z[-1], start, out, base)

    def vjp(self, z: Tensor, g: Tensor, start: int = 0) -> Tensor:
        pulled = self._pull(g, start)
        return torch.cat([pulled * z[-1], (pulled @ z[:-1])[None]])


def nonlinear(x: Tensor) -> tuple[Subspace, Tensor]:
    model = mlp(5, 4, 3).double()
    space = Subspace(model, projection=Scaled(D=Layout.of(model).D, d=5))
    with torch.no_grad():
        space.z.add_(torch.randn(5, generator=generator(2)))
    return space, x.double()


def test_a_nonlinear_kind_differentiates_at_its_z(x: Tensor) -> None:
    space, x = nonlinear(x)
    assert torch.autograd.gradcheck(of_z(space, x), space.z)


def test_a_nonlinear_kind_refuses_double_backward(x: Tensor) -> None:
    space, x = nonlinear(x)
    (grad,) = torch.autograd.grad(space(x).tanh().sum(), space.z, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward needs a linear projection; received 'scaled'"):
        grad.sum().backward()


def test_autograd_grad_leaves_z_grad_alone(space: Subspace, x: Tensor) -> None:
    (grad,) = torch.autograd.grad(space(x).sum(), space.z)
    assert space.z.grad is None
    space(x).sum().backward()
    assert torch.equal(space.z.grad, grad)


def test_accumulated_micro_batches_are_the_whole_batch(space: Subspace, x: Tensor) -> None:
    whole = torch.autograd.grad(space(x).square().sum(), space.z)[0]
    for part in x.split(2):
        space(part).square().sum().backward()
    torch.testing.assert_close(space.z.grad, whole)


def test_two_forwards_one_backward(space: Subspace, x: Tensor) -> None:
    reference = by_hand(space, mlp(5, 7, 6, 3))
    for net in (space, reference):
        (net(x) * net(-x)).sum().backward()
    torch.testing.assert_close(space.z.grad.double(), gradient_by_hand(space, reference), rtol=1e-5, atol=1e-7)


def test_a_loss_may_be_differentiated_twice_with_retain_graph(space: Subspace, x: Tensor) -> None:
    loss = space(x).square().sum()
    loss.backward(retain_graph=True)
    once = space.z.grad.clone()
    loss.backward()
    torch.testing.assert_close(space.z.grad, 2 * once)


def test_coordinates_may_be_computed_from_others(space: Subspace, x: Tensor) -> None:
    """One inner step, differentiated: two points of the subspace in one graph."""

    def after_a_step(z: Tensor) -> Tensor:
        (grad,) = torch.autograd.grad(of_z(space, x)(z), z, create_graph=True)
        return of_z(space, x)(z - 0.1 * grad)

    space, x = space.double(), x.double()
    assert torch.autograd.gradcheck(lambda z: after_a_step(z.clone()), space.z)


def test_a_graph_of_an_older_z_raises(space: Subspace, x: Tensor) -> None:
    loss = space(x).square().sum()
    shifted(space, seed=8)
    space(x)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("change", ["in place", "data in place", "data replaced", "loaded"])
def test_theta_follows_every_way_of_changing_z(space: Subspace, x: Tensor, change: str) -> None:
    space(x)
    new = torch.randn(space.d, generator=generator(7))
    if change == "in place":
        with torch.no_grad():
            space.z.copy_(new)
    elif change == "data in place":
        space.z.data.copy_(new)
    elif change == "data replaced":
        space.z.data = new.clone()
    else:
        space.load_state_dict(space.state_dict() | {"z": new}, assign=True)
    torch.testing.assert_close(space(x), by_hand(space, mlp(5, 7, 6, 3))(x))


def test_theta_follows_theta0(space: Subspace, x: Tensor) -> None:
    space(x)
    other = shifted(explicit(mlp(5, 7, 6, 3, seed=5)))
    for assign in (False, True):
        space.load_state_dict(other.state_dict(), assign=assign)
        assert torch.equal(space(x), other(x))


def test_theta_is_written_only_when_z_changes(space: Subspace, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    writes = []
    monkeypatch.setattr(Theta, "_write", lambda self, real=Theta._write: (writes.append(1), real(self)))
    for _ in range(3):
        space(x).sum().backward()
        with torch.no_grad():
            space(x)
    assert len(writes) == 1


def test_no_grad_makes_no_graph_and_spoils_none(space: Subspace, x: Tensor) -> None:
    loss = space(x).sum()
    with torch.no_grad():
        assert not space(x).requires_grad
    with torch.inference_mode():
        assert torch.equal(space(x).sum(), loss)
    loss.backward()
    assert space.z.grad is not None
    assert space(x).requires_grad


def test_the_first_call_may_be_in_inference_mode(x: Tensor) -> None:
    space = explicit(mlp(5, 7, 3))
    with torch.inference_mode():
        space(x)
    space(x).sum().backward()
    assert space.z.grad is not None


class Peeks(nn.Module):
    """Reads its weight under no_grad before it uses it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = mlp(5, 3)[0]

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            scale = self.linear.weight.norm()
        return self.linear(x) / scale


def test_a_first_look_under_no_grad_keeps_the_gradient(x: Tensor) -> None:
    space = explicit(Peeks())
    space(x).sum().backward()
    assert space.z.grad.norm() > 0


class Checkpointed(nn.Module):
    def __init__(self, *, reentrant: bool | None) -> None:
        super().__init__()
        self.layers = mlp(5, 6, 6, 6, 3)
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x) if self.reentrant is None else checkpoint(layer, x, use_reentrant=self.reentrant)
        return x


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpoints_give_the_same_gradient(x: Tensor, reentrant: bool) -> None:
    x.requires_grad_(True)
    plain, checked = (shifted(explicit(Checkpointed(reentrant=r))) for r in (None, reentrant))
    for space in (plain, checked):
        space(x).square().sum().backward()
    torch.testing.assert_close(checked.z.grad, plain.z.grad)


def test_the_held_module_may_be_called_directly(space: Subspace, x: Tensor) -> None:
    for seed in (1, 2):
        shifted(space, seed=seed)
        assert torch.equal(space.model(x), space(x))
    space.model(x).sum().backward()
    assert space.z.grad is not None


def test_an_exception_in_the_model_leaves_the_subspace_usable(space: Subspace, x: Tensor) -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        space(x[:, :2])
    assert [n for n, _ in space.model.named_parameters()] == []
    space(x).sum().backward()
    assert space.z.grad is not None


def test_autocast_does_not_round_theta(space: Subspace, x: Tensor) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = space(x)
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert space.z.grad.dtype == torch.float32
    expected = dict(by_hand(space, mlp(5, 7, 6, 3)).named_parameters())
    for name, tensor in space.theta().items():
        torch.testing.assert_close(tensor, expected[name].detach(), rtol=1e-6, atol=1e-6)


def test_a_non_finite_z_is_refused_and_the_next_good_one_served(space: Subspace, x: Tensor) -> None:
    space.z.data[1] = float("nan")
    with pytest.raises(RequestError, match="z must be finite; received 1 non-finite of 5"):
        space(x)
    space.z.data[1] = 0.5
    torch.testing.assert_close(space(x), by_hand(space, mlp(5, 7, 6, 3))(x))


def test_a_model_that_writes_into_its_weights_starts_each_call_from_theta() -> None:
    model = nn.Sequential(nn.Embedding(10, 4, max_norm=0.5), mlp(4, 2)[0])
    space = shifted(explicit(model))
    rows, tokens = by_hand(space, model)[0].weight.detach().clone(), torch.arange(3)
    first = space(tokens)
    assert rows.norm(dim=1).max() > 0.5
    assert torch.equal(space(tokens), first)
    torch.testing.assert_close(space.theta()["0.weight"], rows)
    first = space(tokens)
    first.sum().backward()
    assert space.z.grad is not None


# -- groups and memory ------------------------------------------------------------------------------


@settings(max_examples=50)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(1, 60))
def test_groups_cover_the_rows_in_order_and_keep_to_the_limit(sizes: list[int], rows: int) -> None:
    layout = Layout.of({str(i): torch.zeros(size) for i, size in enumerate(sizes)})
    groups = groups_of(layout, rows=rows)
    assert [i for g in groups for i in range(len(sizes))[g.tensors]] == list(range(len(sizes)))
    assert [g.start for g in groups] == [layout.offsets[g.tensors.start] for g in groups]
    assert all(sum(g.sizes) <= rows or len(g.sizes) == 1 for g in groups)


class LiveRows(TorchDispatchMode):
    """Counts the float32 numbers that live tensors of at least ``least`` numbers own, and their peak."""

    def __init__(self, least: int) -> None:
        super().__init__()
        self.least, self.live, self.peak = least, 0, 0
        self.seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor) and tensor.dtype == torch.float32 and tensor.numel() >= self.least:
                self._count(tensor.untyped_storage(), tensor.numel())
        return out

    def _count(self, storage: torch.UntypedStorage, numel: int) -> None:
        key = storage._cdata
        if key not in self.seen and storage.nbytes() == 4 * numel:  # else a view of theta
            self.seen.add(key)
            self.live += numel
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._drop, key, numel)

    def _drop(self, key: int, numel: int) -> None:
        self.seen.discard(key)
        self.live -= numel


def peak_of_backward(loss: Tensor, least: int) -> int:
    with LiveRows(least) as counter:
        loss.backward()
    return counter.peak


def test_gradients_are_projected_and_freed_group_by_group() -> None:
    widths = [300] * 16
    model, x = mlp(*widths), torch.randn(2, 300, generator=generator())
    space = Subspace(model, projection="uniform", d=3)
    groups = [sum(g.sizes) for g in space._theta.groups]
    assert len(groups) >= 5
    activations = 4 * x.numel()
    assert peak_of_backward(space(x).sum(), 256) <= 2 * max(groups) + activations
    assert peak_of_backward(model(x).sum(), 256) >= 0.9 * space.D


def test_only_theta_and_theta0_are_held() -> None:
    space = explicit(mlp(64, 64, 64), d=3)
    space(torch.zeros(1, 64)).sum().backward()
    held = [b.numel() for b in space._theta.buffers] + [t.numel() for t in space.theta0]
    assert sum(held) == 2 * space.D
    assert all(p.numel() == 0 or p is space.z for n, p in space.named_parameters() if not n.startswith("theta0"))


def test_a_dropped_subspace_is_freed_at_once() -> None:
    space = explicit(mlp(8, 8, 8), d=3)
    space(torch.zeros(1, 8)).sum().backward()
    buffer = weakref.ref(space._theta.buffers[0])
    del space
    assert buffer() is None


def test_projections_are_asked_once_a_group(space: Subspace, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    starts = []
    real = Projection.vjp_parts
    monkeypatch.setattr(Projection, "vjp_parts", lambda *a: starts.append(a[-1]) or real(*a))
    space(x).sum().backward()
    assert starts == [g.start for g in reversed(space._theta.groups)]
