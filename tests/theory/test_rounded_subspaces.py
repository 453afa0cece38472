"""A subspace at a few levels: gradients straight through, what is written where, and that training there helps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from idim import Subspace, tasks
from idim.runs import RunSpec
from idim.runs.learner import Bare, learner, network
from idim.runs.rows import training_rows
from idim.runs.train import alone, fit
from idim.theory.quantise import Quantised, quantise
from idim.theory.rounded import LEVEL_RATE, Rounded, parts_of, tuned, write


def small_space(projection: str = "hadamard", train: tuple[str, ...] = ()) -> tuple[Subspace, dict[str, Tensor]]:
    """Return a subspace with numbers as after training, and its numbers before."""
    draw = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    for p in model.parameters():
        nn.init.normal_(p, generator=draw)
    space = Subspace(model, projection=projection, d=12, seed=3, train=train)
    own = {name: p for name, p in space.named_parameters() if p.requires_grad}
    start = {name: p.detach().clone() for name, p in own.items()}
    with torch.no_grad():
        for p in own.values():
            p.add_(torch.randn(p.shape, generator=draw))
    return space, start


@pytest.mark.parametrize(("projection", "train"), [("hadamard", ()), ("layerwise", ()), ("hadamard", ("2.*",))])
def test_what_is_written_is_the_start_and_the_levels(projection: str, train: tuple[str, ...]) -> None:
    space, start = small_space(projection, train)
    parts = parts_of(space, start)
    codes = [quantise(part.change, 4) for part in parts]
    before = {name: p.detach().clone() for name, p in space.named_parameters()}
    write(space, parts, codes)
    assert [part.names for part in parts] == [("z",), *([("model.2.weight", "model.2.bias")] if train else [])]
    for part, code in zip(parts, codes, strict=True):
        now = torch.cat([dict(space.named_parameters())[name].detach().flatten() for name in part.names])
        first = torch.cat([start[name].flatten() for name in part.names])
        assert torch.equal(now, first + code.levels[code.codes])
        assert len((now - first).unique()) >= 4 or projection == "layerwise"
    moved = {name for part in parts for name in part.names}
    assert all(torch.equal(p, before[name]) for name, p in space.named_parameters() if name not in moved)


def test_rounding_to_as_many_levels_as_numbers_changes_next_to_nothing() -> None:
    space, start = small_space()
    x = torch.ones(2, 6)
    with torch.no_grad():
        before = space(x)
        write(space, parts_of(space, start), [quantise(part.change, 12) for part in parts_of(space, start)])
        assert torch.allclose(space(x), before, atol=2e-2)  # float16


def test_gradients_go_straight_through() -> None:
    space, start = small_space(train=("2.*",))
    parts = parts_of(space, start)
    x, y = torch.randn(5, 6, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2, 0, 1])
    module = Rounded(space, parts, 3)
    F.cross_entropy(module(x), y).backward()
    twin, _ = small_space(train=("2.*",))
    codes = [
        Quantised(codes=(w.detach()[:, None] - c.detach()).abs().argmin(1), levels=c.detach())
        for w, c in zip(module.hidden, module.levels, strict=True)
    ]
    write(twin, parts, codes)
    F.cross_entropy(twin(x), y).backward()
    own = dict(twin.named_parameters())
    for part, code, hidden, levels in zip(parts, codes, module.hidden, module.levels, strict=True):
        gradient = torch.cat([own[name].grad.flatten() for name in part.names])  # type: ignore[union-attr]
        assert torch.allclose(hidden.grad, gradient, atol=1e-6)  # type: ignore[arg-type]
        sums = torch.zeros(3).index_add_(0, code.codes, gradient)
        assert torch.allclose(levels.grad, sums, atol=1e-6)  # type: ignore[arg-type]


def test_training_at_the_levels_lowers_the_loss_there() -> None:
    task = tasks.load("digits")
    spec = RunSpec(
        task="digits", fingerprint=task.fingerprint, model="mlp:16", method="subspace", projection="hadamard", d=60,
        lr=0.3, recipe=task.recipe, seed=0,
    )  # fmt: skip
    with alone(0):
        net = network(spec, task, None)
        space = learner(spec, net)
        assert isinstance(space, Subspace)
        start = {"z": space.z.detach().clone()}
        fit(spec, task, Bare(space))
        parts, rows = parts_of(space, start), training_rows(spec, task)
        plain = [quantise(part.change, 3) for part in parts]
        trained = tuned(space, parts, 3, spec=spec, task=task, rows=rows, steps=60, lr=0.3)
        losses = []
        for codes in (plain, trained):
            write(space, parts, codes)
            with torch.no_grad():
                losses.append(float(task.loss(space(rows.inputs), rows.targets)))
        again = tuned(space, parts, 3, spec=spec, task=task, rows=rows, steps=60, lr=0.3)
    assert losses[1] < 0.8 * losses[0]
    assert torch.equal(again[0].codes, trained[0].codes)
    assert torch.equal(again[0].levels, trained[0].levels)
    assert len(trained[0].levels) <= 3
    assert 0 < LEVEL_RATE < 1
