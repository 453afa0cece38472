"""The table of projection kinds that the batteries of laws run over: a new kind is one row here."""

from __future__ import annotations

import atexit
import functools
import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from idim.kernels import blocks
from idim.learned.basis_writer import save_basis
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
    seeds: int = 400  # draws of P behind a mean
    many: tuple[int, int] = (4001, 3000)  # D, and a d of the same order

    def make(self, D=1000, d=7, seed=0) -> Projection:
        return create(self.name, D=D, d=d, seed=seed)


def always(P):
    return True


@dataclass(frozen=True, kw_only=True)
class BasisCase(Case):
    """A basis of random columns in two tensors, written where the tests run; the seed names the file."""

    @property
    def precision(self):
        return self.name.partition(":")[2] or "float32"

    def make(self, D=1000, d=7, seed=0) -> Projection:
        rows = max(D, 1)  # what is out of range is asked of a file that is not
        return create(f"basis:{basis_file(rows, min(d, rows), seed, self.precision)}", D=D, d=d, seed=seed)


@functools.lru_cache(maxsize=1000)
def basis_file(D: int, d: int, seed: int, precision: str = "float32") -> Path:
    """Write a basis of D rows in two tensors, with more than d columns where that is cheap, and return its path."""
    columns = D if D <= 300 else d
    path = folder() / f"{D}-{columns}-{seed}-{precision}.safetensors"
    cut = D // 3
    tensors = {"first": torch.zeros(cut), "second": torch.zeros(D - cut)} if cut else {"all": torch.zeros(D)}
    save_basis(path, orthonormal(D, columns, seed), tensors, learned={}, precision=precision)
    return path


@functools.lru_cache(maxsize=4)
def orthonormal(D: int, columns: int, seed: int) -> torch.Tensor:
    """Return random orthonormal columns, [D, columns]."""
    key = int.from_bytes(hashlib.blake2b(str(seed).encode(), digest_size=7).digest(), "big")
    draws = torch.randn(D, columns, generator=torch.Generator().manual_seed(key), dtype=torch.float64)
    return torch.linalg.qr(draws).Q


@functools.cache
def folder() -> Path:
    place = tempfile.TemporaryDirectory(prefix="idim-bases-")
    atexit.register(place.cleanup)
    return Path(place.name)


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
    BasisCase(name="basis", seeds=20, many=(1201, 900)),
    BasisCase(name="basis:bfloat16", seeds=20, many=(1201, 900)),
    BasisCase(name="basis:float16", seeds=20, many=(1201, 900)),
]
NAMES = [case.name for case in CASES]
