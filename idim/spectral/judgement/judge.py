r"""Judge one tensor of a pair: spectrum, sizes, noise, null and verdict, in one pass where that is enough.

The pass (:mod:`idim.spectral.decomposition.scan`) gives the Gram matrix and the sums that the noise follows from; the
spectrum is refined only where the noise is too fine for it (:mod:`idim.spectral.decomposition.deflate`), and the change
rounded again only where its error may depend on it and a low rank is in question
(:mod:`idim.spectral.noise.rerounding`).
An adapter's change is known as factors, free of rounding to a grid: its rank is that of the factors.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from idim.errors import RequestError
from idim.spectral.decomposition.decompose import of_factors
from idim.spectral.decomposition.deflate import Resolved, resolve
from idim.spectral.decomposition.scan import Scan, scan
from idim.spectral.judgement.matrix_report import MatrixReport, VectorReport
from idim.spectral.judgement.measures import ZERO, measure
from idim.spectral.judgement.readings import close, drawn_again, reading_of
from idim.spectral.judgement.repeated import roundings_like
from idim.spectral.judgement.verdict import Decision, decide, left_beyond
from idim.spectral.noise.drawn import DRAWS, drawn_edge
from idim.spectral.noise.factored import factor_edge
from idim.spectral.noise.null import Null, no_null, null_of
from idim.spectral.noise.pair_noise import Noise, candidates
from idim.spectral.pairing.delta import Delta, Factors

__all__ = ["MatrixReport", "VectorReport", "judge"]


def judge(
    delta: Delta, *, seed: int = 0, false_positive_rate: float = 0.01, roundings: int = 1
) -> MatrixReport | VectorReport:
    """Return what can be said of the change of one tensor.

    Args:
        delta: the pair; a vector gets its norms only.
        seed: of the test vectors of randomized decompositions, used above 8,192 columns.
        false_positive_rate: chance, for each matrix, that noise alone is called a direction.
        roundings: how many times the stored numbers were rounded on their way; of no matter for an adapter.

    Raises:
        RequestError: when a weight is not finite, the tensor is empty, the rate is not between 0 and 0.5, or
            ``roundings`` is less than 1.
    """
    if roundings < 1:
        raise RequestError(f"roundings must be 1 or more; received {roundings}")
    if not 0 < false_positive_rate < 0.5:
        raise RequestError(f"the false-positive rate must be above 0 and below 0.5; received {false_positive_rate}")
    if not delta.size:
        raise RequestError(f"a tensor must have entries; received shape {list(delta.shape)} in {delta.name!r}")
    if delta.matrix is None:
        return _vector(delta)
    if delta.factors is not None:
        return _factored(delta, delta.factors, false_positive_rate)
    base, tuned = _pair(delta)
    found = scan(base, tuned, name=delta.name)
    if found.unchanged == found.size:
        return _unchanged(delta, found, false_positive_rate)
    return _changed(delta, found, base, tuned, seed, false_positive_rate, roundings)


def _pair(delta: Delta) -> tuple[Tensor, Tensor]:
    if delta.base is None or delta.tuned is None:
        raise RequestError(f"a change needs a base and a tuned tensor, or factors; received one: {delta.name!r}")
    return delta.base, delta.tuned


def _vector(delta: Delta) -> VectorReport:
    change = delta.difference(torch.float64)
    if not bool(torch.isfinite(change).all()):
        raise RequestError(f"every weight must be finite; received NaN or infinity in {delta.name!r}")
    norm, base_norm = float(change.norm()), _norm(delta.base)
    return VectorReport(
        name=delta.name,
        shape=tuple(delta.shape),
        dtype=_dtype(delta),
        norm=norm,
        relative=norm / base_norm if base_norm else None,
        base_norm=base_norm,
        unchanged=float((change == 0).double().mean()),
    )


def _unchanged(delta: Delta, found: Scan, rate: float) -> MatrixReport:
    exact = found.change.total == 0
    how = "bit for bit" if exact else f"rounded to {found.tuned_grid.name}"
    norm, words = math.sqrt(found.change.total), f"round to nearest {found.tuned_grid.name}"
    noise = Noise(
        model=words, share=float(not exact), unchanged=1.0, level=norm / math.sqrt(found.size), edge=0.0, gain=1.0
    )
    return _report(
        delta,
        Resolved(squares=np.zeros(0), energy=norm**2, method="none", error_bound=0.0),
        Decision(verdict="unchanged", rank=0, at_least=0, why=f"every weight is the base's, {how}"),
        noise=noise,
        null=no_null(rate),
        support=(0, 0),
        base_norm=math.sqrt(found.base_square),
    )


def _changed(
    delta: Delta, found: Scan, base: Tensor, tuned: Tensor, seed: int, rate: float, roundings: int
) -> MatrixReport:
    assert delta.matrix is not None
    readings, once = candidates(found, rate, roundings), candidates(found, rate)
    edges, energies = [r.noise.edge for r in once], [r.energy for r in once]
    spectrum = resolve(found, base, tuned, edge=min(edges), energy=min(energies), seed=seed)
    rounding, left = reading_of(readings, spectrum, found, rate)
    if left.energy < left.least:  # fewer roundings than were stated: one may explain it
        fewer = _changed(delta, found, base, tuned, seed, rate, 1)
        if fewer.verdict == "low-rank":
            return fewer
    if close(spectrum, rounding, left, found):
        edge = drawn_edge(found, base, tuned, rounding, rate, seed)
        rounding = replace(rounding, noise=replace(rounding.noise, edge=edge, draws=DRAWS))
        left = left_beyond(spectrum, rounding, found.support, rate)
    like = roundings_like(spectrum, once[-1], found.support, rate)
    again = drawn_again(found, base, tuned, spectrum, rounding, left, seed)
    null = null_of(found.change, found.support, spectrum, left.edge, rate, again)
    return _report(
        delta,
        spectrum,
        decide(left, rounding, again, null, delta.matrix, found.support, like=like),
        noise=rounding.noise,
        null=null,
        support=found.support if _tall(delta) else found.support[::-1],
        base_norm=math.sqrt(found.base_square),
    )


def _factored(delta: Delta, factors: Factors, rate: float) -> MatrixReport:
    assert delta.matrix is not None
    small = min(delta.matrix)
    spectrum = of_factors(factors)
    edge = factor_edge(factors, rate)
    resolved = Resolved(
        squares=spectrum.values.square().numpy(),
        energy=spectrum.energy,
        method=spectrum.method,
        error_bound=spectrum.error_bound,
    )
    r, inner = resolved.above(edge), factors.up.shape[1]
    words = f"factors of inner size {inner} change {r} of {small} directions by more than their own rounding"
    base_norm = _norm(delta.base)
    if spectrum.energy == 0:
        decision = Decision(verdict="unchanged", rank=0, at_least=0, why="the product of the factors is zero")
    elif r == 0:
        decision = Decision(verdict="undetermined", rank=None, at_least=0, why=words)
    elif r <= small / 2:
        decision = Decision(verdict="low-rank", rank=r, at_least=r, why=words)
    else:
        decision = Decision(verdict="full-rank", rank=r, at_least=r, why=words)
    return _report(
        delta,
        resolved,
        decision,
        noise=Noise(
            model=f"factors rounded to nearest {_dtype(delta)}",
            share=0.0,
            unchanged=1.0 if spectrum.energy == 0 else 0.0,
            level=0.0,
            edge=edge,
            gain=1.0,
        ),
        null=no_null(rate),
        support=delta.matrix,
        base_norm=base_norm,
    )


def _report(
    delta: Delta,
    spectrum: Resolved,
    decision: Decision,
    *,
    noise: Noise,
    null: Null,
    support: tuple[int, int],
    base_norm: float | None,
) -> MatrixReport:
    assert delta.matrix is not None
    values, norm = spectrum.values[: min(support)], math.sqrt(spectrum.energy)
    sizes = ZERO
    if len(values) and values[0] > 0:
        sizes = measure(
            values,
            support,
            energy=None if spectrum.complete else spectrum.energy,
            noise_edge=noise.edge,
            error_bound=spectrum.error_bound,
            false_positive_rate=null.false_positive_rate,
        )
    return MatrixReport(
        name=delta.name,
        shape=tuple(delta.shape),
        matrix=delta.matrix,
        reshaped=delta.reshaped,
        note=delta.note,
        dtype=_dtype(delta),
        norm=norm,
        relative=norm / base_norm if base_norm else None,
        base_norm=base_norm,
        verdict=decision.verdict,
        rank=decision.rank,
        at_least=decision.at_least,
        why=decision.why,
        measures=sizes,
        noise=noise,
        null=null,
        support=support,
        singular_values=tuple(values.tolist()),
        method=spectrum.method,
        error_bound=spectrum.error_bound,
    )


def _tall(delta: Delta) -> bool:
    assert delta.matrix is not None
    return delta.matrix[0] >= delta.matrix[1]


def _norm(base: Tensor | None) -> float | None:
    return None if base is None else float(torch.linalg.vector_norm(base.double()))


def _dtype(delta: Delta) -> str:
    known = delta.factors.up if delta.factors is not None else delta.tuned
    assert known is not None
    return str(known.dtype).removeprefix("torch.")
