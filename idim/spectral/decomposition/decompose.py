r"""Singular values of a matrix, with a bound on their error.

*Gram.* With the eigenvalues :math:`\lambda_i` of :math:`A^\top A` (the smaller side, float64),
:math:`\sigma_i = \sqrt{\lambda_i}`. Round-off moves each λ by at most about

.. math::
    \eta = (2\sqrt m + \sqrt n)\, 2^{-53}\, \lVert A \rVert_F^2

(the sums of products err like a random walk, the eigenvalues by a few units of the largest), so σ is wrong by
:math:`\min(\eta/\sigma, \sqrt\eta)`: the small ones are lost below :math:`\sqrt\eta \approx 10^{-7} \lVert A \rVert_F`.
That is half the work of a product and one symmetric eigenvalue problem, five to ten times less than a bidiagonal one.

*Deflated Gram.* Where the question is about singular values below that, the leading directions are projected out
of A itself and the Gram matrix of the remainder, whose norm is small, is decomposed; η falls with its norm.

*svdvals.* Bidiagonal reduction in float64; each σ is wrong by a few :math:`2^{-53} \sigma_1`.

*Factors.* With :math:`A = s\,U V`, QR of both factors, the spectrum of :math:`s R_U R_V^\top`, r × r: exact to
:math:`2^{-53}` like svdvals, and no m × n matrix is made.

*Randomized.* The k leading ones from a range Q found with Gaussian test vectors and power iterations. With
:math:`B = A - Q Q^\top A`, :math:`A^\top A = (Q^\top A)^\top Q^\top A + B^\top B`, so
:math:`\tilde\sigma_i \le \sigma_i \le \sqrt{\tilde\sigma_i^2 + \lVert B \rVert^2}`; thirty random probes bound
:math:`\lVert B \rVert` with probability :math:`1 - 10^{-9}` (Halko, Martinsson and Tropp, section 4.3).

References: N. Halko, P.-G. Martinsson and J. Tropp, *Finding structure with randomness*, SIAM Review 53 (2011),
arXiv:0909.4061; N. Higham and T. Mary, *A new approach to probabilistic rounding error analysis*, SIAM J. Sci.
Comput. 41 (2019); G. Golub and C. Van Loan, *Matrix Computations*, 4th ed. (2013).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray
from torch import Tensor

from idim.errors import RequestError
from idim.spectral.pairing.delta import Factors

Floats = NDArray[np.float64]

UNIT = 2.0**-53
PROBES = 30
OVERSAMPLING, POWERS = 16, 2
PROBE_FACTOR = 2 * math.sqrt(2 / math.pi)  # is too small with probability 2**-PROBES


@dataclass(frozen=True, kw_only=True, eq=False)
class Spectrum:
    """Singular values of one matrix.

    Args:
        values: descending, float64.
        method: how they were found.
        error_bound: of each value, absolute.
        energy: ‖A‖²_F.
        complete: whether ``values`` are all min(m, n) of them (those beyond the rank of factors, all 0, left out).
        left, right: singular vectors in columns, [m, k] and [n, k], where asked for.
    """

    values: Tensor
    method: str
    error_bound: float
    energy: float
    complete: bool = True
    left: Tensor | None = field(default=None, repr=False)
    right: Tensor | None = field(default=None, repr=False)


def gram_error(m: int, n: int, energy: float) -> float:
    """Return η: how far an eigenvalue of the Gram matrix may be off, for ‖A‖²_F = ``energy``."""
    return (2 * math.sqrt(max(m, n)) + math.sqrt(min(m, n))) * UNIT * energy


def eigenvalues(gram: Floats) -> Floats:
    """Return the eigenvalues of a Gram matrix, descending; the last may be below zero."""
    # torch's LAPACK, not numpy's: two threads can be in it at once
    ascending = torch.linalg.eigvalsh(torch.from_numpy(gram))
    found: Floats = ascending.numpy()[::-1]
    return found


def leading_vectors(gram: Floats, k: int) -> Floats:
    """Return the k leading eigenvectors of a Gram matrix, in columns, the first first."""
    n = len(gram)
    _, vectors = scipy.linalg.eigh(gram, lower=True, subset_by_index=[n - k, n - 1], check_finite=False)
    found: Floats = vectors[:, ::-1]
    return found


def singular_values(matrix: Tensor, *, floor: float | None = None, vectors: bool = False) -> Spectrum:
    """Return all singular values of a matrix [m, n], in float64.

    Args:
        matrix: any float dtype.
        floor: least singular value that matters: the Gram matrix is used when it resolves that, else svdvals. None
            asks for every digit.
        vectors: whether the singular vectors are wanted as well: by a full decomposition.

    Raises:
        RequestError: when the matrix is empty or not finite.
    """
    _checked(matrix)
    wide = matrix.detach().double()
    m, n = wide.shape
    energy = float(torch.linalg.vector_norm(wide)) ** 2
    if vectors:
        left, values, right = torch.linalg.svd(wide, full_matrices=False)
        bound = _svd_error(m, n, values)
        return Spectrum(values=values, method="svd", error_bound=bound, energy=energy, left=left, right=right.T)
    error = gram_error(m, n, energy)
    if floor is not None and floor > 4 * math.sqrt(error):
        small = wide.T @ wide if m >= n else wide @ wide.T
        values = torch.from_numpy(np.sqrt(np.maximum(eigenvalues(small.numpy()), 0)))
        return Spectrum(values=values, method="gram", error_bound=math.sqrt(error), energy=energy)
    values = torch.linalg.svdvals(wide)
    return Spectrum(values=values, method="svdvals", error_bound=_svd_error(m, n, values), energy=energy)


def of_factors(factors: Factors, *, vectors: bool = False) -> Spectrum:
    """Return the min(m, n, r) singular values of ``scale * up @ down`` that can be above zero.

    Raises:
        RequestError: when a factor is empty or not finite.
    """
    _checked(factors.up)
    _checked(factors.down)
    left, core_left = torch.linalg.qr(factors.up.detach().double())
    right, core_right = torch.linalg.qr(factors.down.detach().double().T)
    core = factors.scale * (core_left @ core_right.T)
    found_left, values, found_right = torch.linalg.svd(core, full_matrices=False)
    return Spectrum(
        values=values,
        method="qr of the factors",
        error_bound=_factor_error(factors, core_left, core_right),
        energy=float(values @ values),
        left=left @ found_left if vectors else None,
        right=right @ found_right.T if vectors else None,
    )


def _factor_error(factors: Factors, left: Tensor, right: Tensor) -> float:
    norms = float(torch.linalg.vector_norm(left)) * float(torch.linalg.vector_norm(right))
    return 8 * UNIT * left.shape[1] * abs(factors.scale) * norms


def randomized(matrix: Tensor, k: int, *, seed: int = 0, vectors: bool = False) -> Spectrum:
    """Return the k leading singular values of a matrix [m, n], with a bound that holds with probability 1 - 1e-9.

    Raises:
        RequestError: when the matrix is empty or not finite, or k is not from 1 to min(m, n).
    """
    _checked(matrix)
    m, n = matrix.shape
    if not 1 <= k <= min(m, n):
        raise RequestError(f"k must be from 1 to min(m, n) = {min(m, n)}; received {k}")
    tall = matrix if m >= n else matrix.T
    wide = tall.detach() if tall.dtype == torch.float64 else tall.detach().float()
    generator = torch.Generator().manual_seed(seed)
    width = min(k + OVERSAMPLING, m, n)
    basis = _orthonormal(wide @ torch.randn(wide.shape[1], width, generator=generator, dtype=wide.dtype))
    for _ in range(POWERS):
        basis = _orthonormal(wide @ _orthonormal(wide.T @ basis))
    found_left, values, found_right = torch.linalg.svd((basis.T @ wide).double(), full_matrices=False)
    least = float(values[k - 1])
    left, right = basis.double() @ found_left[:, :k], found_right[:k].T
    if m < n:
        left, right = right, left
    return Spectrum(
        values=values[:k],
        method=f"randomized, {width} test vectors, {POWERS} power iterations, seed {seed}",
        error_bound=math.hypot(least, _left_out(wide, basis, generator)) - least + _single_error(wide, values),
        energy=float(torch.linalg.vector_norm(wide, dtype=torch.float64)) ** 2,
        complete=False,
        left=left if vectors else None,
        right=right if vectors else None,
    )


def _left_out(wide: Tensor, basis: Tensor, generator: torch.Generator) -> float:
    """Bound the norm of what a basis leaves out of the matrix: too small with probability 2**-30 at most."""
    probes = wide @ torch.randn(wide.shape[1], PROBES, generator=generator, dtype=wide.dtype)
    missed = probes - basis @ (basis.T @ probes)
    return PROBE_FACTOR * float(torch.linalg.vector_norm(missed, dim=0).max())


def _single_error(wide: Tensor, values: Tensor) -> float:
    """Return the round-off of products in the matrix's own precision."""
    return math.sqrt(max(wide.shape)) * torch.finfo(wide.dtype).eps * float(values[0])


def _orthonormal(columns: Tensor) -> Tensor:
    basis: Tensor = torch.linalg.qr(columns)[0]
    return basis


def _svd_error(m: int, n: int, values: Tensor) -> float:
    return 4 * math.sqrt(max(m, n)) * UNIT * float(values[0])


def _checked(matrix: Tensor) -> None:
    if matrix.ndim != 2 or not matrix.numel():
        raise RequestError(f"a spectrum needs a matrix with rows and columns; received shape {list(matrix.shape)}")
    if not bool(torch.isfinite(matrix).all()):
        raise RequestError(f"every entry must be finite; received NaN or infinity in a matrix {list(matrix.shape)}")
