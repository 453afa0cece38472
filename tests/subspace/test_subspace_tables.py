"""Embedding tables by lines: the bits of the whole table, and everything that reads the table as a tensor."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from subspace_cases import by_hand, generator, gradient_by_hand, randomised, shifted
from torch import Tensor, nn
from torch.func import functional_call

from idim.errors import RequestError
from idim.projections import create
from idim.subspace import Subspace
from idim.subspace.graph import MOST_ROWS
from idim.subspace.tables import Embedding, Table
from idim.subspace.theta import Theta

LINES, WIDTH = 9000, 120
assert LINES * WIDTH > MOST_ROWS  # no group has room for a tensor beside it


class Words(nn.Module):
    """A large table of words, a small one of places, and a layer on top."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.before = nn.Parameter(torch.zeros(7))
        self.words = nn.Embedding(LINES, WIDTH, **options)
        self.places = nn.Embedding(9, WIDTH)
        self.out = nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor) -> Tensor:
        places = self.places(torch.arange(x.shape[1]))
        return self.out(torch.tanh(self.words(x) + places).mean(1)) + self.before.sum()


KINDS = ["hadamard", "layerwise:hadamard"]


def words(**options: Any) -> nn.Module:
    return randomised(Words(**options))


def subspace(model: nn.Module, projection: str = "hadamard", d: int = 7) -> Subspace:
    return shifted(Subspace(model, projection=projection, d=d, seed=5), 0.3)


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Make a subspace that reads every tensor as a whole."""

    def make(*args: Any) -> Subspace:
        with monkeypatch.context() as patch:
            patch.setattr(Theta, "defer", lambda *_: False)
            return subspace(*args)

    return make


def tokens(*shape: int, seed: int = 1) -> Tensor:
    return torch.randint(0, LINES, shape, generator=generator(seed))


def stale(space: Subspace) -> int:
    (table,) = space._theta.tables.values()
    return int(table.stale.sum())


def trained(space: Subspace, batches: list[Tensor]) -> list[Tensor]:
    optimizer = torch.optim.Adam(space.parameters(), lr=0.1)
    seen = []
    for x in batches:
        optimizer.zero_grad()
        loss = space(x).square().sum()
        loss.backward()
        optimizer.step()
        seen += [loss.detach(), space.z.grad.clone(), space.z.detach().clone()]
    return seen


@pytest.mark.parametrize("projection", KINDS)
@pytest.mark.parametrize("options", [{}, {"padding_idx": 3}], ids=["", "padding"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_training_gives_the_bits_of_the_whole_table(whole: Any, projection: str, options: Any, dtype: Any) -> None:
    model = words(**options).to(dtype)
    batches = [tokens(4, 6, seed=seed) for seed in range(3)]
    batches[0][0, :3] = 3  # several times, and not all of them padding
    batches[1] = batches[1].int()
    by_lines, reference = subspace(model, projection), whole(model, projection)
    assert type(by_lines.model.words) is Embedding
    assert type(reference.model.words) is nn.Embedding
    pairs = list(zip(trained(by_lines, batches), trained(reference, batches), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert stale(by_lines) > 0
    theta, expected = by_lines.theta(), reference.theta()
    assert all(torch.equal(theta[name], expected[name]) for name in expected)
    assert stale(by_lines) == 0


def test_loss_and_gradient_are_those_of_the_model_with_theta() -> None:
    model, x = words(padding_idx=0), tokens(4, 6)
    x[:2, 0] = 0
    space = subspace(model)
    reference = by_hand(space, model)
    for net in (space, reference):
        net(x).square().sum().backward()
    torch.testing.assert_close(space(x), reference(x))
    torch.testing.assert_close(space.z.grad.double(), gradient_by_hand(space, reference), rtol=1e-4, atol=1e-6)


def test_no_gradient_of_the_size_of_the_table_is_made() -> None:
    space, x = subspace(words()), tokens(4, 6)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor) and not out._is_view():
                largest = max(largest, out.numel())
            return out

    loss = space(x).sum()
    with Watch():
        loss.backward()
    assert space.z.grad is not None
    assert 0 < largest <= x.numel() * WIDTH


def test_a_batch_makes_the_grains_of_its_lines_and_the_next_only_what_is_new() -> None:
    space = subspace(words())
    grain = space.projection.grain(space.z)
    x = torch.tensor([[10, 10, 4000]])
    space(x)
    (table,) = space._theta.tables.values()
    begins = [table.stretch.start + line * WIDTH for line in (10, 4000)]
    wanted = {row // grain - table.first for begin in begins for row in (begin, begin + WIDTH - 1)}
    assert set(np.flatnonzero(~table.stale)) == wanted
    space(torch.tensor([[4000, 2000]]))
    assert len(np.flatnonzero(~table.stale)) > len(wanted)
    shifted(space, seed=9)
    space(x)
    assert set(np.flatnonzero(~table.stale)) == wanted


@settings(max_examples=30, deadline=None)
@given(
    d=st.sampled_from([1, 2, 9, 40, 600, 5000]),
    start=st.integers(0, 70_000),
    width=st.sampled_from([1, 7, 64, 900]),
    rest=st.integers(0, 70_000),
    data=st.data(),
)
def test_lines_of_any_table_have_the_bits_of_its_rows(d: int, start: int, width: int, rest: int, data: Any) -> None:
    count = data.draw(st.integers(1, 100_000 // width))
    lines = np.array(sorted(data.draw(st.sets(st.integers(0, count - 1), max_size=8))), dtype=np.int64)
    P = create("hadamard", D=max(d, start + count * width + rest), d=d, seed=2)
    stop, source = start + count * width, generator(d + start)
    z, base = torch.randn(d, generator=source), torch.randn(count * width, generator=source)
    values = torch.randn(len(lines), width, generator=source)
    dense = torch.zeros(count, width)
    dense[torch.from_numpy(lines)] = values
    pulled = P.vjp_lines(z, lines, values, start, stop)
    assert torch.equal(pulled, P.rows(start, stop).rmatvec(dense.view(-1)))

    out, grain = torch.full_like(base, torch.nan), P.grain(base)
    first = start // grain
    which = data.draw(st.sets(st.integers(first, (stop - 1) // grain), min_size=1, max_size=4))
    P.lift_grains(z, np.array(sorted(which), dtype=np.int64), start, out, base)
    expected = P.rows(start, stop).matvec(z, base=base)
    made = torch.isin((start + torch.arange(len(out))) // grain, torch.tensor(sorted(which)))
    assert torch.equal(out[made], expected[made])
    assert out[~made].isnan().all()


# -- who reads the table as a tensor ------------------------------------------------------------------


class Tied(Words):
    def forward(self, x: Tensor) -> Tensor:
        return self.words(x).mean(1) @ self.words.weight[:5].T


class Penalised(Words):
    """Reads all its parameters in the pass."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + sum(p.square().mean() for p in self.parameters())


class Functional(Words):
    def forward(self, x: Tensor) -> Tensor:
        return self.out(nn.functional.embedding(x, self.words.weight).mean(1))


@pytest.mark.parametrize("kind", [Tied, Penalised, Functional])
def test_a_table_read_as_a_tensor_is_whole(kind: type[nn.Module]) -> None:
    model, x = randomised(kind()), tokens(2, 5)
    space = subspace(model)
    reference = by_hand(space, model)
    for net in (space, reference):
        net(x).square().sum().backward()
    torch.testing.assert_close(space(x), reference(x))
    torch.testing.assert_close(space.z.grad.double(), gradient_by_hand(space, reference), rtol=1e-4, atol=1e-5)
    assert stale(space) == 0


def test_a_tensor_of_the_held_model_is_whole_outside_a_pass() -> None:
    space = subspace(words())
    space(tokens(1, 2))
    assert torch.equal(space.model.words.weight, space.theta()["words.weight"])
    assert torch.equal(space.model.words(torch.arange(LINES)), space.model.words.weight)


def test_tables_of_several_names_stay_as_they_are() -> None:
    model = words()
    model.head = nn.Linear(WIDTH, LINES, bias=False)
    model.head.weight = model.words.weight
    space = subspace(model)
    assert type(space.model.words) is nn.Embedding
    assert not space._theta.tables


@pytest.mark.parametrize("options", [{"max_norm": 0.5}, {"scale_grad_by_freq": True}], ids=["max-norm", "by-frequency"])
def test_options_of_an_embedding_keep_their_meaning(options: Any) -> None:
    model, x = words(**options), torch.tensor([[1, 2, 2, 4000]])
    space = subspace(model)
    reference = by_hand(space, model)
    for net in (space, reference):
        net(x).square().sum().backward()
    torch.testing.assert_close(space.z.grad.double(), gradient_by_hand(space, reference), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_rounded_model_reads_whole_tables(dtype: torch.dtype) -> None:
    space, x = subspace(words().to(dtype)), tokens(2, 5)
    space(x).float().sum().backward()
    assert not space._theta.tables
    assert space.z.grad.norm() > 0


@pytest.mark.parametrize("projection", ["uniform", "fastfood", "sparse"])
def test_kinds_without_a_grain_read_whole_tables(projection: str) -> None:
    space = subspace(words(), projection)
    space(tokens(2, 5)).sum().backward()
    assert not space._theta.tables
    assert space.z.grad.norm() > 0


def test_a_model_of_one_table_checks_its_coordinates() -> None:
    space = subspace(nn.Sequential(nn.Embedding(LINES, WIDTH)))
    space.z.data[0] = torch.nan
    with pytest.raises(RequestError, match="z must be finite"):
        space(tokens(3))


@pytest.mark.parametrize("number", [-1, LINES])
def test_a_number_outside_the_table_is_refused_by_pytorch(number: int) -> None:
    with pytest.raises(IndexError, match="out of range"):
        subspace(words())(torch.tensor([[0, number]]))


def test_numbers_of_another_dtype_are_refused_by_pytorch() -> None:
    with pytest.raises(RuntimeError, match="scalar types"):
        subspace(words())(torch.zeros(1, 2))


def test_an_empty_batch_has_a_zero_gradient() -> None:
    space = subspace(nn.Sequential(nn.Embedding(LINES, WIDTH), nn.Linear(WIDTH, 1)))
    space(tokens(0)).sum().backward()
    assert torch.equal(space.z.grad, torch.zeros(space.d))


def test_a_hook_may_change_the_numbers() -> None:
    model, x = words(), tokens(2, 5)
    expected = subspace(model)(x // 2)
    space = subspace(model)
    space.model.words.register_forward_pre_hook(lambda _, args: (args[0] // 2,))
    assert torch.equal(space(x), expected)


def test_a_tensor_put_in_the_place_of_a_table_is_read() -> None:
    space, x = subspace(words()), tokens(2, 5)
    space.model.words.weight = nn.Parameter(torch.zeros(LINES, WIDTH))
    assert torch.equal(space.model.words(x), torch.zeros(2, 5, WIDTH))


# -- graphs ------------------------------------------------------------------------------------------


def of_z(space: Subspace, x: Tensor) -> Any:
    return lambda z: functional_call(space, {"z": z.clone()}, (x,)).tanh().sum()


def test_first_and_second_gradient_agree_with_finite_differences() -> None:
    space, x = subspace(words().double(), d=3), torch.tensor([[1, 2, 2], [4, 1, 7]])
    assert space._theta.deferred
    assert torch.autograd.gradcheck(of_z(space, x), space.z)
    assert torch.autograd.gradgradcheck(of_z(space, x), space.z)


def test_a_gradient_with_a_graph_has_the_same_bits() -> None:
    space, x = subspace(words()), tokens(3, 4)
    (plain,) = torch.autograd.grad(space(x).square().sum(), space.z)
    (graphed,) = torch.autograd.grad(space(x).square().sum(), space.z, create_graph=True)
    assert torch.equal(plain, graphed)
    assert graphed.requires_grad


def test_structure_aware_subspaces_refuse_a_second_gradient() -> None:
    space = subspace(words(), "layerwise:hadamard")
    (grad,) = torch.autograd.grad(space(tokens(2, 3)).square().sum(), space.z, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward needs a linear projection"):
        grad.sum().backward()


def test_a_table_looked_up_twice_gets_both_gradients() -> None:
    class Twice(Words):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * super().forward(x.flip(0) // 2)

    model, x = randomised(Twice()), tokens(3, 4)
    space = subspace(model)
    reference = by_hand(space, model)
    for net in (space, reference):
        net(x).sum().backward()
    torch.testing.assert_close(space.z.grad.double(), gradient_by_hand(space, reference), rtol=1e-4, atol=1e-6)


def test_modes_without_gradients_leave_the_table_usable() -> None:
    space, x = subspace(words()), tokens(2, 4)
    with torch.inference_mode():
        first = space(x)
    with torch.no_grad():
        assert torch.equal(space(x), first)
    space(x).sum().backward()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        space(x).float().sum().backward()
    assert space.z.grad.norm() > 0


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_change_no_bit(whole: Any, threads: int) -> None:
    model, x = words(), tokens(90, 8)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        results = trained(subspace(model), [x])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(results, trained(whole(model), [x]), strict=True))


@pytest.mark.slow
def test_a_compiled_program_reads_the_whole_table() -> None:
    space, x = subspace(words()), tokens(2, 4)
    expected = space(x)
    assert torch.equal(torch.compile(space, backend="eager")(x), expected)


# -- copies and files ----------------------------------------------------------------------------------


def test_copies_read_for_themselves(tmp_path: Any) -> None:
    model, x = words(), tokens(2, 4)
    space = subspace(model)
    expected = space(x)
    space.save(tmp_path)
    copies = [copy.deepcopy(space), pickle.loads(pickle.dumps(space)), Subspace.load(tmp_path, model)]
    shifted(space, seed=11)
    space(x)
    for other in copies:
        assert type(other.model.words) is Embedding
        assert torch.equal(other(x), expected)
        assert next(iter(other._theta.tables.values())) is not next(iter(space._theta.tables.values()))


def test_merged_models_have_ordinary_embeddings() -> None:
    space, x = subspace(words()), tokens(2, 4)
    merged = space.merged()
    assert {type(m) for m in merged.modules()} == {Words, nn.Embedding, nn.Linear}
    assert torch.equal(merged(x), space(x))
    assert type(space.model.words) is Embedding
    assert isinstance(merged.words.weight, nn.Parameter)


def test_a_table_follows_theta0_and_dtype() -> None:
    space, x = subspace(words()), tokens(2, 4)
    space(x)
    other = subspace(randomised(Words(), 8))
    space.load_state_dict(other.state_dict())
    assert torch.equal(space(x), other(x))
    space.theta0[0].data = other.theta0[0].detach() * 2
    with torch.no_grad():
        other.theta0[0].mul_(2)
    assert torch.equal(space(x), other(x))
    torch.testing.assert_close(space.double()(x), other(x).double(), rtol=1e-5, atol=1e-5)
    assert isinstance(next(iter(space._theta.tables.values())), Table)
