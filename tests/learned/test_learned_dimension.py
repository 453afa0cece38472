"""Where the subspace of all solutions is known, learned bases find it, and d_int measured in them is its dimension."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.linalg import subspace_angles
from torch import Tensor

import idim
from idim import models, tasks
from idim.cli import main
from idim.projections.basis_file import open_basis

RANK = 4
TASK = f"regression:{RANK}"
ANGLE = 1e-3


def normal(size: int, seed: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rows() -> Tensor:
    """Return the rows of the regression's X, whose span holds the one solution that descent from zero finds."""
    inputs = tasks.load(TASK).train.inputs
    assert isinstance(inputs, Tensor)
    return inputs


def name() -> str:
    net = models.build("linear", input_shape=(1000,), outputs=1, seed=0)
    ((found, _),) = net.named_parameters()
    return found


def write(path: Path, weight: Tensor) -> Path:
    save_file({name(): weight.reshape(1, 1000).contiguous()}, path)
    return path


def descent(folder: Path) -> list[Path]:
    """Write gradient descent on the regression from zero."""
    inputs, targets = rows(), tasks.load(TASK).train.targets[:, 0]
    rate = 1 / float(torch.linalg.matrix_norm(inputs, 2)) ** 2
    theta, files = torch.zeros(1000, dtype=torch.float64), []
    for step in range(10):
        files.append(write(folder / f"{step}.safetensors", theta))
        theta = theta - rate * inputs.T @ (inputs @ theta - targets)
    return files


def tuned(folder: Path) -> list[Path]:
    """Write zero, and the solutions of seven regressions of the same inputs to targets of their own."""
    inverse = torch.linalg.pinv(rows())
    solutions = [inverse @ normal(len(rows()), k) for k in range(7)]
    zero = torch.zeros(1000, dtype=torch.float64)
    return [write(folder / f"{k}.safetensors", weight) for k, weight in enumerate([zero, *solutions])]


def learned(way: str, folder: Path) -> Path:
    """Learn a basis of RANK columns by the command line."""
    out = folder / "basis.safetensors"
    choices: dict[str, list[object]] = {
        "trajectory": ["trajectory", *descent(folder)],
        "lottery": ["trajectory", *descent(folder), "--centre", "start"],
        "deltas": ["deltas", *tuned(folder)],
        **{kind: ["curvature", "--task", TASK, "--of", kind] for kind in ("hessian", "gauss-newton", "gradients")},
    }
    with pytest.raises(SystemExit) as left:
        main([str(part) for part in ("subspace", "learn", *choices[way], "--columns", RANK, "--out", out, "--quiet")])
    assert left.value.code == 0
    return out


WAYS = ["trajectory", "lottery", "deltas", "hessian", "gauss-newton", "gradients"]


@pytest.mark.parametrize("way", WAYS)
def test_a_learned_basis_has_the_true_dimension(way: str, tmp_path: Path) -> None:
    out = learned(way, tmp_path)
    file = open_basis(out)
    columns = idim.projections.Basis(D=file.D, d=RANK, path=str(out)).to_dense().numpy()
    span = np.linalg.svd(rows().numpy(), full_matrices=False)[2][:RANK].T
    assert float(subspace_angles(columns, span).max()) <= ANGLE
    found = idim.measure(
        task=TASK, projection=f"basis:{out}", dims="1,2,3,4", seeds=1, bar="absolute:0.999999",
        engine="serial", quiet=True, out=tmp_path / "out",
    )  # fmt: skip
    assert found.d_int == RANK
    assert not found.censored
