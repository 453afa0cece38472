"""Subspaces of tasks whose answer is known: planted directions, principal components, what a task loss asks for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from idim.errors import RequestError
from idim.learned.autoencoder import Finding, column_space, find

D, T, K = 60, 12, 3


def draws(*shape, seed=0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def planted(k=K) -> tuple[Tensor, Tensor]:
    """Return T vectors in a k-dimensional subspace around a mean outside it, and its orthonormal columns."""
    columns = torch.linalg.qr(draws(D, k)).Q
    return (5 + draws(T, k, seed=1) @ columns.T).float(), columns


def largest_angle(one: Tensor, other: Tensor) -> float:
    """Return the sine of the largest principal angle between the spans of orthonormal columns."""
    return float(torch.linalg.matrix_norm(other - one @ (one.T @ other), ord=2))


@pytest.mark.parametrize(("kind", "within"), [("pca", 1e-5), ("linear", 1e-3)])
def test_a_linear_decoder_finds_planted_directions(kind, within):
    vectors, columns = planted()
    found = find(vectors, Finding(kind=kind, d=K, first=2000, lr=3e-3))
    assert largest_angle(column_space(found), columns) < within
    assert max(found.errors) < within**2 + 1e-6


def test_the_code_is_standard_and_zero_is_its_mean():
    vectors, _ = planted()
    for kind in ("pca", "linear", "mlp"):
        found = find(vectors, Finding(kind=kind, d=2, first=200))
        assert torch.allclose(found.codes.mean(0), torch.zeros(2), atol=1e-5)
        assert torch.allclose(found.codes.std(0, correction=0), torch.ones(2), atol=1e-4)
        share = (found.decode(found.codes) - vectors).square().sum(1) / (vectors - vectors.mean(0)).square().sum(1)
        assert torch.allclose(torch.tensor(found.errors), share, atol=1e-4)
    linear = find(vectors, Finding(kind="pca", d=K))
    assert torch.allclose(linear.decode(torch.zeros(K)), vectors.mean(0), atol=1e-4)


def test_principal_components_are_those_of_the_singular_value_decomposition():
    vectors = draws(T, D, seed=3).float()
    found = find(vectors, Finding(kind="pca", d=4))
    centred = (vectors - vectors.mean(0)).double()
    values = torch.linalg.svdvals(centred)
    missed = torch.tensor(found.errors).double() * centred.square().sum(1)
    assert float(missed.sum()) == pytest.approx(float(values[4:].square().sum()), rel=1e-4)


def test_an_mlp_rebuilds_a_curve_that_no_line_holds():
    turn = torch.linspace(-1.5, 1.5, T).unsqueeze(1)
    vectors = torch.cat([turn.sin(), turn.cos()], dim=1) @ draws(2, D, seed=2).float()
    line, curve = (find(vectors, Finding(kind=kind, d=1, first=1000, lr=3e-3)) for kind in ("linear", "mlp"))
    assert sum(curve.errors) < 0.25 * sum(line.errors)


def test_task_losses_turn_the_directions_that_tunings_leave_open():
    """Every task asks for a step s along a direction that no tuning has.

    A step a costs a²/S of reconstruction, S the mean squared norm of the centred tunings, and (s - a)² of task loss:
    the best is a = s S/(1 + S).
    """
    vectors, columns = planted(2)
    wanted = torch.linalg.qr(torch.cat([columns, draws(D, 1, seed=9)], dim=1)).Q[:, 2].float()
    steps, plain = 3 * draws(T, 2, seed=1)[:, 0].float(), vectors.mean(0) @ wanted

    def loss(k: int, change: Tensor) -> Tensor:
        return (change @ wanted - plain - steps[k]).square()

    asked = []
    finding = Finding(kind="linear", d=3, first=600, rounds=60, lr=3e-3)
    without = find(vectors, finding)
    found = find(vectors, finding, lambda k, change: (asked.append(k), loss(k, change))[1])
    taken, untaken = (each.decode(each.codes) @ wanted - plain for each in (found, without))
    spread = float((vectors - vectors.mean(0)).square().sum(1).mean())
    assert float((taken - steps * spread / (1 + spread)).norm()) < 0.03 * float(steps.norm())
    assert float(untaken.norm()) < 0.01 * float(steps.norm())
    assert found.task_losses[-1] < 0.2 * found.task_losses[0]
    rounds = [asked[i : i + T] for i in range(0, len(asked), T)]
    assert all(sorted(turn) == list(range(T)) for turn in rounds)
    assert rounds[0] != rounds[1]


def test_the_same_finding_finds_the_same():
    vectors, _ = planted()
    one, other, third = (find(vectors, Finding(kind="mlp", d=5, first=20, seed=s)) for s in (0, 0, 1))
    assert all(torch.equal(a.weight, b.weight) for a, b in zip(one.layers, other.layers, strict=True))
    assert not torch.equal(one.layers[0].weight, third.layers[0].weight)


def test_more_coordinates_than_tasks_are_had_from_an_auto_encoder_alone():
    vectors, _ = planted()
    found = find(vectors, Finding(kind="linear", d=40, first=50))
    assert found.codes.shape == (T, 40)
    assert column_space(found).shape == (D, 40)
    with pytest.raises(RequestError, match=r"12 tasks have at most 11 principal components; received d = 12"):
        find(vectors, Finding(kind="pca", d=12))


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (torch.ones(1, 5), "a subspace of tasks needs at least two of them; received 1"),
        (torch.ones(3, 5), "tunings must differ to be learned from; received 3 that are all the same"),
        (torch.full((2, 5), float("nan")), "must be finite; received other numbers"),
    ],
)
def test_tunings_that_say_nothing_are_refused(vectors, message):
    with pytest.raises(RequestError, match=message):
        find(vectors, Finding(d=1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"d": 0}, "d must be at least 1; received 0"),
        ({"d": 1, "kind": "tree"}, "unknown decoder 'tree'"),
        ({"d": 1, "alpha": -1.0}, "alpha must be at least 0 and lr above 0; received -1.0"),
        ({"d": 1, "rounds": -1}, "rounds must be at least 0; received -1"),
    ],
)
def test_findings_out_of_range_are_refused(options, message):
    with pytest.raises(RequestError, match=message):
        Finding(**options)
