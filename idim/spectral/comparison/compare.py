r"""Compare two updates of one base, or an update with its base, one matrix at a time.

Both sides of every matrix are looked at: the left directions are where an update writes to, the
right ones where it reads from. The mathematics is in :mod:`idim.spectral.comparison.angles` (principal angles,
Grassmann distances), :mod:`idim.spectral.comparison.similarity` (φ), :mod:`idim.spectral.comparison.amplification`,
:mod:`idim.spectral.comparison.intruders` and :mod:`idim.spectral.comparison.chance` (the zero line of them all).
"""

from __future__ import annotations

import torch
from torch import Tensor

from idim.errors import RequestError
from idim.spectral.comparison.amplification import amplification
from idim.spectral.comparison.angles import chordal, geodesic, principal_angles
from idim.spectral.comparison.chance import random_angles, random_similarity, same_coordinates
from idim.spectral.comparison.intruders import THRESHOLD, TOP, check_threshold, intruders
from idim.spectral.comparison.records import Alignment, BaseComparison, Comparison
from idim.spectral.comparison.similarity import similarity_table
from idim.spectral.comparison.update import Update, inner_product, shared_rounding, update_of
from idim.spectral.decomposition.directions import BaseDirections, Directions, of_base, of_matrix
from idim.spectral.pairing.delta import Delta

K = 8


def compare(delta_a: Delta, delta_b: Delta, *, k: int = K, seed: int = 0) -> Comparison:
    """Compare the k leading directions of two updates of one weight matrix.

    Args:
        delta_a, delta_b: the updates; an adapter's factors are not multiplied out. See
            :mod:`idim.spectral.comparison.update` for what counts as changed.
        k: number of leading directions, at least 1; an update of lower rank has as many as its rank.
        seed: of the random subspaces behind ``chance_angles``.

    A vector has no directions: its norms and inner product are given, and ``why`` says so.

    Raises:
        RequestError: for different shapes, k < 1, or an entry that is not finite.
    """
    check_options(k)
    a, b = update_of(delta_a), update_of(delta_b)
    if a.shape != b.shape:
        received = f"{list(a.shape)} and {list(b.shape)} for {a.name}"
        raise RequestError(f"two updates must have one shape; received {received}")
    return compare_updates(a, a.directions(k), b, b.directions(k), k=k, seed=seed)


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
    if delta.matrix is None:
        raise RequestError(f"a comparison needs a matrix; received {delta.name} of shape {list(delta.shape)}")
    base = of_base(delta.base, name=f"{delta.name} of the base")
    return beside_base(delta, update_of(delta).directions(k), base, k=k, top=top, threshold=threshold, seed=seed)


def compare_updates(
    update_a: Update, a: Directions, update_b: Update, b: Directions, *, k: int = K, seed: int = 0
) -> Comparison:
    """Compare two updates of one shape whose leading directions are known."""
    zero = " and ".join(which for which, of in (("first", a), ("second", b)) if not of.norm)
    why = f"the {zero} update is zero" if zero else ""
    return Comparison(
        name=update_a.name,
        shape=update_a.shape,
        k=k,
        rank_a=a.rank,
        rank_b=b.rank,
        norm_a=a.norm,
        norm_b=b.norm,
        inner=inner_product(update_a, update_b),
        left=align(a.left, b.left, seed=seed),
        right=align(a.right, b.right, seed=seed),
        why="a vector has no directions" if update_a.vector else why,
        note=shared_rounding(update_a, update_b),
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
        shape=(base.matrix.shape[0], base.matrix.shape[1]),
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


def tuned_weights(delta: Delta) -> Tensor:
    """Return the tuned weights [m, n]; base plus adapter in float32 or wider."""
    if delta.tuned is not None:
        return delta.tuned
    if delta.base is None or delta.factors is None:
        raise RequestError(f"the tuned weights need the base and its update; received neither for {delta.name}")
    wide = torch.float64 if delta.base.dtype == torch.float64 else torch.float32
    up, down = delta.factors.up.to(wide), delta.factors.down.to(wide)
    return torch.addmm(delta.base.to(wide), up, down, alpha=delta.factors.scale)


def check_options(k: int, top: int = TOP, threshold: float = THRESHOLD) -> None:
    """Raise unless the options are in range."""
    for word, value in (("k", k), ("top", top)):
        if value < 1:
            raise RequestError(f"{word} must be at least 1; received {value}")
    check_threshold(threshold)
