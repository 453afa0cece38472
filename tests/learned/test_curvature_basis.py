"""From eigenvectors or gradients to a basis, and training inside it: a quadratic needs as many columns as its rank."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from curvature_cases import normal
from torch import Tensor, nn
from torch.nn import functional as F

from idim.learned.basis_writer import save_basis
from idim.learned.curvature import GaussNewton, Hessian
from idim.learned.gradients import Gradients, gram_directions
from idim.learned.lanczos import lanczos
from idim.learned.objective import Objective
from idim.subspace import Subspace

D, RANK = 120, 4


def problem() -> tuple[nn.Module, Tensor, Tensor]:
    """Return a model in D numbers and consistent equations of a rank that it cannot meet at its start."""
    inputs = (normal(20, RANK, seed=1) @ normal(RANK, D, seed=2)).float()
    model = nn.Linear(D, 1, bias=False)
    model.weight.data = normal(1, D, seed=4).float() / 10
    return model, inputs, inputs @ normal(D, 1, seed=3).float() / 10


def columns(way: str, objective: Objective) -> Tensor:
    if way == "gradients":
        return gram_directions(Gradients(objective=objective), k=RANK).vectors
    kind = {"hessian": Hessian, "gauss-newton": GaussNewton}[way]
    return lanczos(kind(objective), k=RANK).vectors


@pytest.mark.parametrize("way", ["hessian", "gauss-newton", "gradients"])
def test_the_columns_of_the_rank_solve_a_quadratic_and_one_less_does_not(way: str, tmp_path: Path) -> None:
    model, inputs, targets = problem()
    found = columns(way, Objective(model, F.mse_loss, inputs, targets))
    save_basis(tmp_path / "top.safetensors", found, dict(model.named_parameters()), learned={"from": way})
    start = F.mse_loss(model(inputs), targets).item()
    for d in (RANK - 1, RANK):
        space = Subspace(model, projection=f"basis:{tmp_path / 'top.safetensors'}", d=d)
        optimizer = torch.optim.LBFGS([space.z], max_iter=200, tolerance_grad=0, line_search_fn="strong_wolfe")

        def closure(space: Subspace = space, optimizer: torch.optim.Optimizer = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss = F.mse_loss(space(inputs), targets)
            loss.backward()
            return loss

        optimizer.step(closure)
        left = F.mse_loss(space(inputs), targets).item() / start
        assert left < 1e-8 if d == RANK else left > 1e-3
