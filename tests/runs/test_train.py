from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from idim import models, tasks
from idim.errors import RequestError
from idim.runs import RunSpec, TrainingFailed, run
from idim.runs.optimize import batches, decay, descend
from idim.runs.rows import Rows, training_rows
from idim.tasks import Recipe

SpecMaker = Callable[..., RunSpec]


def test_the_same_spec_gives_the_same_bits_on_any_number_of_threads(spec: SpecMaker) -> None:
    one = spec("digits", model="mlp:30", steps=60, lr=2e-3)
    first = run(one)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.rand(7)  # the global generator plays no part, whatever its state
    try:
        assert run(one) == first
        assert torch.get_num_threads() == 2, "the caller's threads are given back"
    finally:
        torch.set_num_threads(threads)
    assert run(dataclasses.replace(one, seed=1)) != first


def test_digits_are_learned(spec: SpecMaker) -> None:
    result = run(spec("digits", lr=2e-3))
    assert result.score > 0.95
    assert result.selection_score > 0.95
    assert (result.D, result.trained, result.steps) == (7510, 7510, 600)
    assert result.train_loss < 0.1


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_every_optimizer_descends_as_the_plain_one_does(optimizer: str, schedule: str) -> None:
    """The fused optimizers, a rate set by hand and no hidden momentum: beside PyTorch's plain loop."""
    task = tasks.load("toy")
    recipe = Recipe(optimizer=optimizer, schedule=schedule, batch_size=0, steps=30, l2=0.01, precision="float64")  # type: ignore[arg-type]

    def fresh() -> torch.nn.Module:
        return models.build("linear", input_shape=(1000,), outputs=1, seed=0).double()

    fast = fresh()
    descent = descend(
        fast,
        task.loss,
        Rows(inputs=task.train.inputs, targets=task.train.targets),
        recipe=recipe,
        lr=1e-3,
        generator=torch.Generator(),
    )
    slow = fresh()
    plain = {
        "adam": lambda p: torch.optim.Adam(p, lr=1e-3, weight_decay=0.01, foreach=False),
        "adamw": lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.01, foreach=False),
        "sgd": lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.9, weight_decay=0.01, foreach=False),
    }[optimizer](slow.parameters())
    steps = torch.optim.lr_scheduler.CosineAnnealingLR(plain, 30) if schedule == "cosine" else None
    losses = []
    for _ in range(30):
        plain.zero_grad()
        loss = task.loss(slow(task.train.inputs), task.train.targets)
        loss.backward()
        plain.step()
        losses.append(loss.item())
        if steps is not None:
            steps.step()
    for a, b in zip(fast.parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    assert descent.loss == pytest.approx(sum(losses) / len(losses), rel=1e-9)
    assert descent.steps == 30


def test_lbfgs_solves_a_linear_system_to_round_off(spec: SpecMaker) -> None:
    lbfgs = dataclasses.replace(spec(), recipe=tasks.load("toy").recipe, lr=1.0)
    result = run(lbfgs)
    assert result.score > 1 - 1e-14
    assert result.train_loss < 1e-12
    assert result.steps < 20


def test_a_batch_is_part_of_one_permutation_an_epoch() -> None:
    recipe = Recipe(batch_size=4, steps=7)
    parts = list(batches(10, recipe, torch.Generator().manual_seed(0)))
    assert len(parts) == 7
    assert all(len(part) == 4 for part in parts)
    for epoch in (parts[0:2], parts[2:4], parts[4:6]):
        assert torch.cat(epoch).unique().numel() == 8
    again = batches(10, recipe, torch.Generator().manual_seed(0))
    assert all(torch.equal(a, b) for a, b in zip(parts, again, strict=True))
    assert {int(row) for part in parts for row in part} == set(range(10)), "rows left out take part in other epochs"


@pytest.mark.parametrize("size", [0, 10, 11])
def test_a_batch_of_all_rows_is_not_copied(size: int) -> None:
    assert list(batches(10, Recipe(batch_size=size, steps=3), torch.Generator())) == [slice(None)] * 3


def test_the_rate_falls_from_one_to_nearly_zero() -> None:
    rates = [decay(Recipe(steps=100), step) for step in range(100)]
    assert rates[0] == 1
    assert rates[50] == pytest.approx(0.5)
    assert 0 < rates[99] < 1e-3
    assert rates == sorted(rates, reverse=True)
    assert decay(Recipe(schedule="constant"), 77) == 1


def test_selection_rows_train_only_when_asked(spec: SpecMaker) -> None:
    class Counting(torch.nn.Module):
        """Counts the rows it sees."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(64, 10))
            self.rows = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.rows += len(x)
            return x.flatten(1) @ self.weight

    task = tasks.load("digits")
    for train_on, rows in (("train", 1078), ("train+selection", 1437)):
        counting, one = Counting(), spec("digits", batch_size=0, steps=1, train_on=train_on)
        taken = training_rows(one, task)
        descend(counting, task.loss, taken, recipe=one.recipe, lr=0.1, generator=torch.Generator())
        assert counting.rows == rows
    toy = tasks.load("toy")
    assert len(training_rows(spec(train_on="train+selection"), toy)) == len(toy.train)


@pytest.mark.parametrize(("optimizer", "batch_size"), [("adam", 0), ("sgd", 32), ("lbfgs", 0)])
def test_a_loss_that_is_not_finite_names_step_and_rate(optimizer: str, batch_size: int) -> None:
    rows = Rows(inputs=torch.ones(64, 3), targets=torch.full((64, 1), 1e30))
    recipe = Recipe(optimizer=optimizer, batch_size=batch_size, steps=50)  # type: ignore[arg-type]
    with pytest.raises(TrainingFailed, match=r"must stay finite; received (nan|inf) at step \d+ with lr 0.5"):
        descend(
            torch.nn.Linear(3, 1),
            torch.nn.functional.mse_loss,
            rows,
            recipe=recipe,
            lr=0.5,
            generator=torch.Generator(),
        )


def test_data_other_than_the_specs_are_refused(spec: SpecMaker) -> None:
    with pytest.raises(RequestError, match="must have the fingerprint 0123 of the spec; received d145"):
        run(dataclasses.replace(spec(), fingerprint="0123"))


def test_a_missing_folder_is_the_callers_to_mend(spec: SpecMaker, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="--data DIR or IDIM_DATA"):
        run(dataclasses.replace(spec(), task="mnist"), data=tmp_path)


def test_a_subspace_run_trains_d_numbers_and_repeats(spec: SpecMaker) -> None:
    one = spec("digits", d=200, lr=0.03, steps=100)
    result = run(one)
    assert (result.D, result.trained) == (7510, 200)
    assert math.isfinite(result.train_loss)
    assert result.score > 2 * tasks.load("digits").chance
    assert run(one) == result
    assert run(dataclasses.replace(one, seed=1)).score != result.score


@pytest.mark.parametrize(("d", "solved"), [(9, False), (10, True), (30, True)])
def test_the_toy_is_solved_from_ten_coordinates_on(spec: SpecMaker, d: int, solved: bool) -> None:
    toy = dataclasses.replace(spec(d=d), recipe=tasks.load("toy").recipe, lr=1.0)
    assert (run(toy).score > 1 - 1e-9) is solved


def test_coordinates_that_overflow_are_a_failed_training(spec: SpecMaker) -> None:
    with pytest.raises(TrainingFailed, match=r"finite.* lr 1e\+300"):
        run(spec(d=10, lr=1e300, optimizer="sgd"))


def test_outputs_that_are_not_finite_are_a_failure_not_a_score() -> None:
    task = tasks.load("digits")
    spec = RunSpec(
        task="digits", fingerprint=task.fingerprint, model="mlp:20", method="full", lr=1e30,
        recipe=dataclasses.replace(task.recipe, steps=1), seed=0,
    )  # fmt: skip
    with pytest.raises(TrainingFailed, match=r"lr 1e\+30"):
        run(spec)
