"""The table of projection kinds that the batteries of laws run over: a new kind is one row here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from idim.kernels import blocks
from idim.projections import Projection, create

Lift = Callable[[Projection, Tensor], Tensor]
Pull = Callable[[Projection, Tensor], Tensor]


def chunk_lift(P, z):
    return P._lift_reference(z, 0, P.D)


def chunk_pull(P, g):
    return P._pull_reference(g, 0)


def blocks_lift(P, z):
    return P._scale * torch.cat([rows for _, rows in blocks.lift(z, 0, P.D, P._layout, P._keys)])


def blocks_pull(P, g):
    return P._scale * blocks.pull(g, 0, P.d, P._layout, P._keys)


def no_compiled_lift(P, z):
    return P.matvec(z)


def no_compiled_pull(P, g):
    return P.rmatvec(g)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A kind by its user's name, and what it promises beyond the laws of all kinds."""

    name: str
    orthonormal: Callable[[Projection], bool] = lambda P: False  # columns exactly orthonormal
    spreads: bool = True  # every row holds every coordinate
    solves_toy: bool = True  # d coordinates meet d generic constraints
    lift: Lift = chunk_lift  # the reference on torch alone
    pull: Pull = chunk_pull

    def make(self, D=1000, d=7, seed=0) -> Projection:
        return create(self.name, D=D, d=d, seed=seed)


def always(P):
    return True


CASES = [
    Case(
        name="hadamard",
        orthonormal=lambda P: P.D % P.n == 0,
        lift=blocks_lift,
        pull=blocks_pull,
    ),
    Case(name="fastfood"),
    Case(name="fastfood:global"),
    Case(name="dense"),
    Case(name="dense:gaussian"),
    Case(name="sparse", spreads=False),
    Case(name="sparse:0.3", spreads=False),
    Case(name="uniform", orthonormal=always, spreads=False),
    Case(name="uniform:unsigned", orthonormal=always, spreads=False),
    Case(name="kronecker", orthonormal=lambda P: P._shapes[0][0] * P._shapes[1][0] == P.D),
    Case(
        name="selector",
        orthonormal=always,
        spreads=False,
        solves_toy=False,
        lift=no_compiled_lift,
        pull=no_compiled_pull,
    ),
]
NAMES = [case.name for case in CASES]
