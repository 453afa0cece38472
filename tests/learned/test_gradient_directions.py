"""Top directions of many gradients, by Gram matrix and by sketch, beside the svd of the whole matrix."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from curvature_cases import CASES, NAMES, ROWS, Case, normal
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from idim.errors import RequestError
from idim.learned.gradients import GradientDirections, Gradients, gram_directions, sketched_directions
from idim.learned.objective import Objective
from idim.spectral.comparison.angles import principal_angles

Way = Callable[..., GradientDirections]


def sketched(gradients: Gradients, *, k: int) -> GradientDirections:
    return sketched_directions(gradients, k=k, rounds=9)  # the gaps of these small cases are narrow


WAYS = pytest.mark.parametrize("way", [gram_directions, sketched])


def whole(case: Case, rows: int) -> Tensor:
    """Return the gradients of the mean losses of consecutive rows, a batch a line, one network call each."""
    model, (inputs, targets) = case.model().eval(), case.rows()
    lines = []
    for start in range(0, ROWS, rows):
        part = slice(start, start + rows)
        grads = torch.autograd.grad(case.loss(model(inputs[part]), targets[part]), list(model.parameters()))
        lines.append(torch.cat([grad.flatten() for grad in grads]))
    return torch.stack(lines)


@WAYS
@pytest.mark.parametrize(("rows", "centred"), [(1, False), (4, False), (4, True)])
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_directions_are_those_of_the_whole_matrix(way: Way, rows: int, case: Case, centred: bool) -> None:
    matrix = whole(case, rows)
    matrix = matrix - matrix.mean(0) if centred else matrix
    _, values, right = torch.linalg.svd(matrix, full_matrices=False)
    found = way(Gradients(objective=case.objective(), rows=rows, centred=centred, block=5), k=3)
    assert float(((found.values - values[:3]) / values[:3]).abs().max()) <= 1e-6
    assert float(principal_angles(found.vectors, right[:3].T).max()) <= 1e-4
    assert float(found.residuals.max()) <= 1e-4 * float(values[0])
    assert found.total == pytest.approx(float(matrix.square().sum()), rel=1e-10)
    assert float(found.shares.sum()) == pytest.approx(float(values[:3].square().sum() / found.total), rel=1e-6)
    assert found.n == len(matrix)
    assert float((found.vectors.T @ found.vectors - torch.eye(3)).norm()) <= 1e-12


@settings(max_examples=10, deadline=None)
@given(rows=st.integers(1, ROWS), block=st.integers(1, ROWS + 1), case=st.sampled_from(CASES), centred=st.booleans())
def test_blocks_are_the_gradients_in_order(rows: int, block: int, case: Case, centred: bool) -> None:
    matrix = whole(case, rows)
    gradients = Gradients(objective=case.objective(batch=3), rows=rows, block=block, centred=centred)
    parts = [part.clone() for part in gradients.blocks()]
    assert len(gradients) == len(matrix)
    assert max(len(part) for part in parts) <= block
    mean = matrix.mean(0) if centred else torch.zeros(())
    assert float((torch.cat(parts) - (matrix - mean)).norm()) <= 1e-13 * float(matrix.norm())
    assert float((gradients.mean - matrix.mean(0)).norm()) <= 1e-13 * float(matrix.norm())


@WAYS
def test_float32_gradients_of_known_rank_span_their_space(way: Way) -> None:
    """Rows x give gradients along x: 60 rows in a space of 4 dimensions have 4 directions and no more."""
    space = torch.linalg.qr(normal(900, 4, seed=1))[0]
    inputs = normal(60, 4, seed=2) @ space.T
    objective = Objective(nn.Linear(900, 1, bias=False), F.mse_loss, inputs, normal(60, 1, seed=3))
    found = way(Gradients(objective=objective), k=9)
    assert len(found.values) == 4
    assert found.vectors.dtype == torch.float32
    assert float(principal_angles(found.vectors, space).max()) <= 1e-5
    assert float(found.shares.sum()) == pytest.approx(1.0, abs=1e-6)


@WAYS
def test_no_gradient_has_no_direction(way: Way) -> None:
    objective = Objective(nn.Linear(4, 1), lambda y, t: 0 * (y - t).mean(), normal(6, 4), normal(6, 1))
    found = way(Gradients(objective=objective), k=2)
    assert found.vectors.shape == (5, 0)
    assert found.values.shape == found.shares.shape == (0,)


@pytest.mark.parametrize("rounds", [0, 1, 3])
@pytest.mark.parametrize("case", CASES[:5:2], ids=NAMES[:5:2])
def test_residuals_bound_the_values_of_a_sketch(case: Case, rounds: int) -> None:
    values = torch.linalg.svdvals(whole(case, 1))
    found = sketched_directions(Gradients(objective=case.objective()), k=4, extra=2, rounds=rounds)
    nearest = (found.values[:, None] - values).abs().min(dim=1).values
    assert bool((nearest <= found.residuals + 1e-14).all())
    assert bool((found.values <= values[:4] + 1e-14).all())


def test_a_sketch_is_a_function_of_its_seed() -> None:
    gradients = Gradients(objective=CASES[0].objective())
    state = torch.random.get_rng_state()
    one, two = (sketched_directions(gradients, k=2, extra=0, rounds=0, seed=s).vectors for s in (1, 1))
    assert torch.equal(one, two)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.equal(one, sketched_directions(gradients, k=2, extra=0, rounds=0, seed=2).vectors)


@WAYS
def test_bad_input_is_refused_in_a_line(way: Way) -> None:
    gradients = Gradients(objective=CASES[0].objective(), rows=5)
    for k in (0, 6):
        with pytest.raises(RequestError, match=f"between 1 and the 5 gradients there are; received k = {k}"):
            way(gradients, k=k)
    for options in ({"rows": 0}, {"block": 0}):
        with pytest.raises(RequestError, match="rows and block must be at least 1; received"):
            Gradients(objective=CASES[0].objective(), **options)
    bad = Objective(nn.Linear(4, 1), lambda y, t: (y - y.detach()).abs().sqrt().sum(), normal(6, 4), normal(6, 1))
    with pytest.raises(RequestError, match="gradients must be finite; received NaN or infinity"):
        way(Gradients(objective=bad), k=1)


@pytest.mark.parametrize("options", [{"extra": -1}, {"rounds": -1}])
def test_a_sketch_without_columns_or_rounds_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(RequestError, match="extra and rounds must be at least 0; received"):
        sketched_directions(Gradients(objective=CASES[0].objective()), k=1, **options)
