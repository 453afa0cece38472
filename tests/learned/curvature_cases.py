"""Small networks and losses of which every matrix can be made whole, by other means than those that are tested."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, hessian, jacrev
from torch.nn import functional as F

from idim.learned.objective import Objective
from idim.parameters import choose

ROWS = 23


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def classes(seed: int = 1, outputs: int = 3) -> Tensor:
    return torch.randint(0, outputs, (ROWS,), generator=generator(seed))


class Tied(nn.Module):
    """One matrix that reads and writes, under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
        self.out.weight = self.into.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.into(x)))


def mlp(activation: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Linear(4, 5), activation(), nn.Dropout(0.5), nn.Linear(5, 3))


def conv() -> nn.Module:
    layers = [nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3)]
    return nn.Sequential(nn.Unflatten(1, (1, 4, 4)), *layers)


def logistic(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(outputs, targets)


def quartic(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).pow(4).mean()


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A network, a loss, and rows of so many numbers."""

    name: str
    make: Callable[[], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor]
    targets: Tensor
    inputs: int = 4

    def model(self) -> nn.Module:
        """Return the network with weights from a fixed seed, in train mode, with running statistics of its own."""
        model = self.make().double()
        for n, parameter in enumerate(model.parameters()):
            parameter.data = normal(*parameter.shape, seed=n + 7) / 2
        for n, buffer in enumerate(model.buffers()):
            if buffer.is_floating_point():
                buffer.copy_(normal(*buffer.shape, seed=n + 70).abs() + 0.5)
        return model.train()

    def rows(self) -> tuple[Tensor, Tensor]:
        return normal(ROWS, self.inputs, seed=5), self.targets

    def objective(self, **options: Any) -> Objective:
        return Objective(self.model(), self.loss, *self.rows(), **{"batch": 8, "double": True} | options)


CASES = [
    Case(name="mlp, cross-entropy", make=mlp(nn.Tanh), loss=F.cross_entropy, targets=classes()),
    Case(name="mlp, squares", make=mlp(nn.ReLU), loss=F.mse_loss, targets=normal(ROWS, 3, seed=2)),
    Case(name="mlp, quartic", make=mlp(nn.Softplus), loss=quartic, targets=normal(ROWS, 3, seed=2)),
    Case(name="mlp, logistic", make=mlp(nn.SiLU), loss=logistic, targets=(normal(ROWS, 3, seed=2) > 0).double()),
    Case(name="conv, cross-entropy", make=conv, loss=F.cross_entropy, targets=classes(), inputs=16),
    Case(name="conv, squares", make=conv, loss=F.mse_loss, targets=normal(ROWS, 3, seed=3), inputs=16),
    Case(name="tied, squares", make=Tied, loss=F.mse_loss, targets=normal(ROWS, 4, seed=4)),
]
NAMES = [case.name for case in CASES]


def as_function(case: Case, model: nn.Module) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Return theta -> outputs of all rows at once, and theta, by functional calls in eval mode."""
    inside, inputs = choose(model).inside, case.rows()[0]
    model.eval()

    def outputs(theta: Tensor) -> Tensor:
        pieces = theta.split([p.numel() for p in inside.values()])
        named = {name: piece.view(p.shape) for (name, p), piece in zip(inside.items(), pieces, strict=True)}
        return functional_call(model, named, (inputs,))

    return outputs, torch.cat([p.detach().flatten() for p in inside.values()])


@functools.cache
def dense_hessian(case: Case) -> Tensor:
    outputs, theta = as_function(case, case.model())
    return hessian(lambda t: case.loss(outputs(t), case.targets))(theta)


@functools.cache
def dense_gauss_newton(case: Case) -> Tensor:
    """Return Jᵀ B J with the whole Jacobian, and the whole second derivative of the loss in all outputs."""
    outputs, theta = as_function(case, case.model())
    jacobian = jacrev(outputs)(theta).flatten(0, 1)
    answers = outputs(theta)
    size = answers.numel()
    inner = hessian(lambda y: case.loss(y, case.targets))(answers).reshape(size, size)
    return jacobian.T @ inner @ jacobian


class Dense:
    """A matrix that is whole, as one that is known by its products; it counts them."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix, self.D, self.dtype, self.device = matrix, len(matrix), matrix.dtype, matrix.device
        self.count = 0

    def matvec(self, v: Tensor) -> Tensor:
        self.count += 1
        return self.matrix @ v


def turned(values: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return a symmetric float64 matrix with these eigenvalues, and its eigenvectors as columns."""
    basis = torch.linalg.qr(normal(len(values), len(values), seed=seed))[0]
    matrix = (basis * values) @ basis.T
    return (matrix + matrix.T) / 2, basis
