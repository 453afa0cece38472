"""Models, an explicit projection and a slow obvious reference that the tests of the subspace share."""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from idim.parameters import Layout, choose
from idim.projections import Projection
from idim.subspace import Subspace


@functools.cache
def _matrix(D: int, d: int, seed: int) -> Tensor:
    return torch.randn(D, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) / D**0.5


@dataclass(frozen=True, kw_only=True)
class Explicit(Projection):
    """A stored Gaussian matrix: nothing to go wrong."""

    kind: ClassVar[str] = "explicit"

    @property
    def matrix(self) -> Tensor:
        return _matrix(self.D, self.d, self.seed)

    def _lift(self, z: Tensor, start: int, out: Tensor, base: Tensor | None) -> None:
        rows = self.matrix[start : start + out.numel()] @ z.double()
        out.copy_(rows if base is None else rows + base)

    def _pull(self, g: Tensor, start: int) -> Tensor:
        pulled = self.matrix[start : start + g.numel()].T @ g.double()
        return pulled if g.dtype == torch.float64 else pulled.float()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give every float parameter values from an explicit generator (initialisers use the global one)."""
    source = generator(seed)
    with torch.no_grad():
        for p in model.parameters():
            if p.is_floating_point():
                p.copy_(
                    torch.randn(p.shape, generator=source) * (0.5 / max(1, p[0].numel()) ** 0.5 if p.ndim > 1 else 0.1)
                )
    return model


def mlp(*widths: int, seed: int = 0) -> nn.Sequential:
    layers = [layer for pair in itertools.pairwise(widths) for layer in (nn.Linear(*pair), nn.Tanh())]
    model = nn.Sequential(*layers[:-1])
    randomised(model, seed)
    return model


class LeNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.head = nn.Sequential(nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).flatten(1))


class BatchNormNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2))
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).flatten(1))


class Recurrent(nn.Module):
    """An LSTM keeps its weights in a list, and asks its own parameters for a dtype."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 5, num_layers=2, batch_first=True)
        self.out = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.lstm(x.to(next(self.parameters()).dtype))[0][:, -1])


class Attention(nn.Module):
    """nn.MultiheadAttention reads ``out_proj.weight`` without calling ``out_proj``."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x).mean(1)


class TiedAutoencoder(nn.Module):
    """One table under two names, as embeddings and output layers of language models are."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 6)
        self.mid = nn.Linear(6, 6)
        self.out = nn.Linear(6, 11, bias=False)
        self.out.weight = self.table.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.mid(self.table(x))))


class Twice(nn.Module):
    """One module under two names, used twice in a call."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.again = self.first
        self.out = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.again(torch.tanh(self.first(x)))))


class Lists(nn.Module):
    """Parameters in a list and in a dict of parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.many = nn.ParameterList([nn.Parameter(torch.zeros(3)) for _ in range(3)])
        self.named = nn.ParameterDict({"a": nn.Parameter(torch.zeros(3, 2))})

    def forward(self, x: Tensor) -> Tensor:
        return (x + sum(self.many) * self.many[1]) @ self.named["a"]


class WeightNormed(nn.Module):
    """A parametrised weight: its parts are parameters of a module inside the module."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


Make = Callable[[], tuple[nn.Module, Tensor]]

MODELS: dict[str, Make] = {
    "mlp": lambda: (mlp(5, 7, 3), torch.randn(4, 5, generator=generator(1))),
    "lenet": lambda: (randomised(LeNet()), torch.randn(2, 1, 28, 28, generator=generator(1))),
    "batch-norm": lambda: (randomised(BatchNormNet()), torch.randn(4, 1, 8, 8, generator=generator(1))),
    "lstm": lambda: (randomised(Recurrent()), torch.randn(2, 3, 4, generator=generator(1))),
    "attention": lambda: (randomised(Attention()), torch.randn(2, 3, 8, generator=generator(1))),
    "tied": lambda: (randomised(TiedAutoencoder()), torch.randint(0, 11, (4, 3), generator=generator(1))),
    "shared": lambda: (randomised(Twice()), torch.randn(4, 4, generator=generator(1))),
    "lists": lambda: (randomised(Lists()), torch.randn(4, 3, generator=generator(1))),
    "weight-norm": lambda: (randomised(WeightNormed()), torch.randn(4, 4, generator=generator(1))),
}


def explicit(model: nn.Module, *, d: int = 5, seed: int = 0, **options: object) -> Subspace:
    """Return a subspace with a stored matrix as P."""
    patterns = {k: v for k, v in options.items() if k in ("include", "exclude", "train")}
    D = Layout.of(choose(model, **patterns).inside).D
    return Subspace(model, projection=Explicit(D=D, d=d, seed=seed), **patterns)


def shifted(space: Subspace, scale: float = 1.0, seed: int = 3) -> Subspace:
    """Move z away from zero."""
    with torch.no_grad():
        space.z.copy_(torch.randn(space.d, generator=generator(seed)) * scale)
    return space


def by_hand(space: Subspace, model: nn.Module) -> nn.Module:
    """Return a deep copy of ``model`` with theta0 + P z written into it tensor by tensor, P as a stored matrix."""
    P = space.projection.to_dense()
    change = P @ space.z.detach().double()
    out = copy.deepcopy(model)
    at = 0
    for name in space.layout.names:
        p = out.get_parameter(name)
        with torch.no_grad():
            p.add_(change[at : at + p.numel()].view(p.shape).to(p.dtype))
        at += p.numel()
    assert at == space.D
    return out


def gradient_by_hand(space: Subspace, model: nn.Module) -> Tensor:
    """Return Pᵀ g of the gradients that a backward pass left in ``model``."""
    grads = [model.get_parameter(n).grad for n in space.layout.names]
    flat = [
        torch.zeros(size, dtype=torch.float64) if g is None else g.double().reshape(-1)
        for g, size in zip(grads, space.layout.sizes, strict=True)
    ]
    return space.projection.to_dense().T @ torch.cat(flat)
