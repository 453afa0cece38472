r"""Compare two updates of one base, or an update with its base, one matrix at a time.

Both sides of every matrix are looked at: the left directions are where an update writes to, the
right ones where it reads from. The mathematics is in :mod:`idim.spectral.angles` (principal angles,
Grassmann distances), :mod:`idim.spectral.similarity` (φ), :mod:`idim.spectral.amplification`,
:mod:`idim.spectral.intruders` and :mod:`idim.spectral.chance` (the zero line of them all).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from idim.errors import RequestError
from idim.spectral.amplification import amplification
from idim.spectral.angles import chordal, geodesic, principal_angles
from idim.spectral.chance import random_angles, random_similarity, same_coordinates
from idim.spectral.comparison import Alignment, BaseComparison, Comparison
from idim.spectral.delta import Delta, Factors
from idim.spectral.directions import BaseDirections, Directions, of_base, of_delta, of_matrix, row_blocks, times
from idim.spectral.intruders import THRESHOLD, TOP, check_threshold, intruders
from idim.spectral.similarity import similarity_table

K = 8


def compare(delta_a: Delta, delta_b: Delta, *, k: int = K, seed: int = 0) -> Comparison:
    """Compare the k leading directions of two updates of one weight matrix.

    Args:
        delta_a, delta_b: the updates; an adapter's factors are not multiplied out.
        k: number of leading directions, at least 1; an update of lower rank has as many as its rank.
        seed: of the random subspaces behind ``chance_angles``.

    A vector has no directions: its norms and inner product are given, and ``why`` says so.

    Raises:
        RequestError: for different shapes, k < 1, or an entry that is not finite.
    """
    check_options(k)
    if (delta_a.matrix, delta_a.size) != (delta_b.matrix, delta_b.size):
        shapes = f"{list(delta_a.matrix or delta_a.shape)} and {list(delta_b.matrix or delta_b.shape)}"
        raise RequestError(f"two updates must have one shape; received {shapes} for {delta_a.name}")
    if delta_a.matrix is None:
        return _vectors(delta_a, delta_b, k=k)
    return compare_directions(delta_a, of_delta(delta_a, k), delta_b, of_delta(delta_b, k), k=k, seed=seed)


def against_base(
    delta: Delta, *, k: int = K, top: int = TOP, threshold: float = THRESHOLD, seed: int = 0
) -> BaseComparison:
    """Compare an update with the weights it changes: angles, φ, amplification, intruder dimensions.

    Args:
        delta: the update, with its base weights.
        k: number of leading directions of the update and of the base.
        top: number of leading directions of the tuned weights searched for intruders.
        threshold: best cosine below which such a direction is an intruder.
        seed: of the random subspaces behind ``chance_angles``.

    Raises:
        RequestError: for a vector, a delta without base, k or top < 1, a threshold outside (0, 1], or an
            entry that is not finite.
    """
    check_options(k, top, threshold)
    if delta.base is None:
        raise RequestError(f"a comparison with the base needs its weights; received only the adapter of {delta.name}")
    base = of_base(delta.base, name=f"{delta.name} of the base")
    return beside_base(delta, of_delta(delta, k), base, k=k, top=top, threshold=threshold, seed=seed)


def compare_directions(
    delta_a: Delta, a: Directions, delta_b: Delta, b: Directions, *, k: int = K, seed: int = 0
) -> Comparison:
    """Compare two updates whose leading directions are known."""
    zero = " and ".join(which for which, of in (("first", a), ("second", b)) if not of.rank)
    return Comparison(
        name=delta_a.name,
        shape=_matrix(delta_a),
        k=k,
        rank_a=a.rank,
        rank_b=b.rank,
        norm_a=a.norm,
        norm_b=b.norm,
        inner=inner_product(delta_a, delta_b),
        left=align(a.left, b.left, seed=seed),
        right=align(a.right, b.right, seed=seed),
        why=f"the {zero} update is zero" if zero else "",
    )


def beside_base(
    delta: Delta,
    update: Directions,
    base: BaseDirections,
    *,
    k: int = K,
    top: int = TOP,
    threshold: float = THRESHOLD,
    seed: int = 0,
) -> BaseComparison:
    """Compare an update with its base when the directions of both are known."""
    own = base.first(k)
    zero = " and ".join(which for which, of in (("update", update), ("base", own)) if not of.rank)
    tuned = of_matrix(tuned_weights(delta), top, name=f"{delta.name} of the tuned model")
    return BaseComparison(
        name=delta.name,
        shape=_matrix(delta),
        k=k,
        rank=update.rank,
        left=align(update.left, own.left, seed=seed),
        right=align(update.right, own.right, seed=seed),
        amplification=amplification(base.matrix, base.values, update, base_norm=base.norm) if update.rank else None,
        intruders=intruders(base, tuned, threshold=threshold),
        why=f"the {zero} is zero" if zero else "",
    )


def align(a: Tensor, b: Tensor, *, seed: int = 0) -> Alignment | None:
    """Return how the spans of two orthonormal bases [n, i] and [n, j] lie; None when one is empty."""
    (n, i), (_, j) = a.shape, b.shape
    if not i or not j:
        return None
    angles, table = principal_angles(a, b), similarity_table(a, b)
    chance_angles = random_angles(n, i, j, seed=seed)
    return Alignment(
        dimension=n,
        angles=tuple(angles.tolist()),
        geodesic=geodesic(angles),
        chordal=chordal(angles),
        similarity=tuple(tuple(row) for row in table.tolist()),
        overlap=float(table[-1, -1]),
        chance=random_similarity(n, i, j),
        coordinates=same_coordinates(a, b),
        chance_angles=chance_angles,
        shared=int((angles.cos() > chance_angles.largest_cosine.high).sum()),
    )


def inner_product(delta_a: Delta, delta_b: Delta) -> float:
    """Return ⟨ΔA, ΔB⟩; of two adapters through their factors, at the cost of r × r matrices."""
    if delta_a.factors is not None and delta_b.factors is not None:
        return _factored(delta_a.factors, delta_b.factors)
    if delta_a.factors is not None:
        delta_a, delta_b = delta_b, delta_a
    if delta_b.factors is not None:
        up, down = delta_b.factors.up.double(), delta_b.factors.down.double()
        return delta_b.factors.scale * float((times(delta_a.difference(), up, transpose=True).T * down).sum())
    blocks = zip(row_blocks(delta_a.difference()), row_blocks(delta_b.difference()), strict=True)
    return math.fsum(float((a.double() * b.double()).sum()) for a, b in blocks)


def tuned_weights(delta: Delta) -> Tensor:
    """Return the tuned weights [m, n]; base plus adapter in float32 or wider."""
    if delta.tuned is not None:
        return delta.tuned
    if delta.base is None or delta.factors is None:
        raise RequestError(f"the tuned weights need the base and its update; received neither for {delta.name}")
    wide = torch.float64 if delta.base.dtype == torch.float64 else torch.float32
    up, down = delta.factors.up.to(wide), delta.factors.down.to(wide)
    return torch.addmm(delta.base.to(wide), up, down, alpha=delta.factors.scale)


def _vectors(delta_a: Delta, delta_b: Delta, *, k: int) -> Comparison:
    a, b = delta_a.difference().double(), delta_b.difference().double()
    inner = float((a * b).sum())
    if not math.isfinite(inner):
        raise RequestError(f"weights must be finite; received NaN or infinity in {delta_a.name}")
    return Comparison(
        name=delta_a.name,
        shape=delta_a.shape,
        k=k,
        rank_a=0,
        rank_b=0,
        norm_a=float(torch.linalg.vector_norm(a)),
        norm_b=float(torch.linalg.vector_norm(b)),
        inner=inner,
        left=None,
        right=None,
        why="a vector has no directions",
    )


def _factored(a: Factors, b: Factors) -> float:
    left, right = a.up.double().T @ b.up.double(), a.down.double() @ b.down.double().T
    return a.scale * b.scale * float((left * right).sum())


def _matrix(delta: Delta) -> tuple[int, int]:
    if delta.matrix is None:
        raise RequestError(f"a comparison needs a matrix; received {delta.name} of shape {list(delta.shape)}")
    return delta.matrix


def check_options(k: int, top: int = TOP, threshold: float = THRESHOLD) -> None:
    """Raise unless the options are in range."""
    for word, value in (("k", k), ("top", top)):
        if value < 1:
            raise RequestError(f"{word} must be at least 1; received {value}")
    check_threshold(threshold)
