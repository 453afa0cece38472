"""Pairs of matrices whose change is known."""

import numpy as np
import torch

from idim.spectral.pairing.delta import Delta


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def product(m, n, rank, seed=0):
    return normal(m, rank, seed=seed) @ normal(rank, n, seed=seed + 1)


def weights(m, n, seed=99):
    return 0.02 * normal(m, n, seed=seed)


def pair(base, change, *, relative=None, dtype=torch.float32, base_dtype=None, name="layer.weight"):
    """Base and base plus change, the change scaled to a relative norm, each rounded once to its format."""
    before = torch.from_numpy(np.asarray(base)).to(base_dtype or dtype)
    change = torch.from_numpy(np.asarray(change))
    if relative is not None:
        change = change * (relative * before.double().norm() / change.norm())
    moved = before.double() + change
    after = moved if dtype == torch.float64 else moved.float().to(dtype)
    return Delta(name=name, shape=tuple(base.shape), matrix=tuple(base.shape), base=before, tuned=after)
