r"""The rounding of a low-rank change's factors.

With :math:`\Delta = s\,(U + E_U)(V + E_V)`, the errors move Δ by :math:`s\,(E_U V + U E_V)` to first order, so by at
most :math:`s\,(\lVert E_U\rVert \lVert V\rVert + \lVert U\rVert \lVert E_V\rVert)`; directions smaller than that
may be made of rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from idim.spectral.noise import random_matrices
from idim.spectral.pairing.delta import Factors
from idim.spectral.reading.grids import grid_of


def factor_edge(factors: Factors, rate: float) -> float:
    """Return the largest singular value that the rounding of the factors alone could make, at ``rate``."""
    up, down = _norm(factors.up), _norm(factors.down)
    return abs(factors.scale) * (_edge(factors.up, rate) * down + up * _edge(factors.down, rate))


def _edge(factor: Tensor, rate: float) -> float:
    squares = grid_of(factor).spacing(factor.detach().contiguous()).double().square().numpy() / 12
    squares = squares * (factor != 0).numpy()
    return random_matrices.profile_edge(squares.sum(1), squares.sum(0), rate)


def _norm(factor: Tensor) -> float:
    return float(torch.linalg.matrix_norm(factor.double(), 2))
