"""Two models tuned from one base, compared tensor by tensor: read, compared, forgotten."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from idim.errors import RequestError
from idim.spectral.comparison.compare import K, beside_base, check_options, compare, compare_updates
from idim.spectral.comparison.intruders import THRESHOLD, TOP
from idim.spectral.comparison.records import BaseComparison, PairComparison
from idim.spectral.comparison.together import ModelComparison, summarize_comparisons
from idim.spectral.comparison.update import update_of
from idim.spectral.decomposition.directions import BaseDirections, Directions, of_base
from idim.spectral.pairing.delta import Delta
from idim.spectral.pairing.pairs import Pairs, Skipped

COMPARISON_VERSION = 2
"""Part of what a finished comparison is kept under. Raise it when the same pair would give other numbers."""

Keep = Callable[[str, Mapping[str, Any]], None]
Records = Mapping[str, Mapping[str, Any]]


def compare_models(
    pairs_a: Pairs,
    pairs_b: Pairs,
    *,
    k: int = K,
    top: int = TOP,
    threshold: float = THRESHOLD,
    base: bool = True,
    names: Sequence[str] | None = None,
    seed: int = 0,
    done: Records | None = None,
    keep: Keep | None = None,
    progress: Callable[[PairComparison], None] | None = None,
) -> ModelComparison:
    """Compare two tuned models of one base, tensor by tensor, in the order of ``pairs_a``.

    Print ``str(result)``: a summary within 80 columns. Store ``result.to_json()``.

    Args:
        pairs_a, pairs_b: each tuned model with the base, from ``open_pairs``.
        k: number of leading directions of each update.
        top, threshold: of the search for intruder dimensions.
        base: whether each update is also compared with the base weights, where they are given.
        names: the tensors to look at; all by default.
        seed: of the random subspaces of the zero lines.
        done: records by name that need not be made again, as ``keep`` was given them.
        keep: told each new record, before the next tensor is read.
        progress: told every comparison, those in ``done`` too.

    Raises:
        RequestError: for k or top < 1, a threshold outside (0, 1], a tensor that cannot be read, or models
            without a tensor in common. What cannot be compared in one tensor is a row of ``skipped``.
    """
    check_options(k, top, threshold)
    common, skipped = _common(pairs_a, pairs_b, names)
    finished: list[PairComparison] = []
    for name in common:
        record = PairComparison.from_json(done[name]) if done is not None and name in done else None
        if record is None:
            try:
                deltas = pairs_a.load(name), pairs_b.load(name)
                record = compare_pair(*deltas, k=k, top=top, threshold=threshold, base=base, seed=seed)
            except RequestError as error:
                skipped.append(Skipped(name=name, reason=str(error)))
                continue
            if keep is not None:
                keep(name, record.to_json())
        finished.append(record)
        if progress is not None:
            progress(record)
    summary = summarize_comparisons(finished)
    return ModelComparison(k=k, tensors=tuple(finished), skipped=tuple(skipped), summary=summary)


def compare_pair(
    delta_a: Delta,
    delta_b: Delta,
    *,
    k: int = K,
    top: int = TOP,
    threshold: float = THRESHOLD,
    base: bool = True,
    seed: int = 0,
) -> PairComparison:
    """Compare two updates of one tensor with each other and, if asked, each with the base.

    Every matrix is decomposed once: a base that both deltas share serves both.

    Raises:
        RequestError: for different shapes, options out of range, or an entry that is not finite.
    """
    check_options(k, top, threshold)
    update_a, update_b = update_of(delta_a), update_of(delta_b)
    if update_a.vector or update_a.shape != update_b.shape:
        return PairComparison(between=compare(delta_a, delta_b, k=k, seed=seed), base_a=None, base_b=None)
    a, b = update_a.directions(k), update_b.directions(k)
    between = compare_updates(update_a, a, update_b, b, k=k, seed=seed)
    del update_a, update_b
    bases = _bases(delta_a, delta_b) if base else (None, None)

    def beside(delta: Delta, update: Directions, weights: BaseDirections | None) -> BaseComparison | None:
        if weights is None:
            return None
        return beside_base(delta, update, weights, k=k, top=top, threshold=threshold, seed=seed)

    return PairComparison(between=between, base_a=beside(delta_a, a, bases[0]), base_b=beside(delta_b, b, bases[1]))


def _bases(delta_a: Delta, delta_b: Delta) -> tuple[BaseDirections | None, BaseDirections | None]:
    first = _base(delta_a)
    if delta_a.base is not None and delta_b.base is not None and torch.equal(delta_a.base, delta_b.base):
        return first, first
    return first, _base(delta_b)


def _base(delta: Delta) -> BaseDirections | None:
    return None if delta.base is None else of_base(delta.base, name=f"{delta.name} of the base")


def _common(a: Pairs, b: Pairs, names: Sequence[str] | None) -> tuple[list[str], list[Skipped]]:
    """Return the names that both have a delta of, and why the others are left out."""
    wanted = None if names is None else set(names)
    first, second = ([name for name in pairs.names if wanted is None or name in wanted] for pairs in (a, b))
    in_first, in_second = set(first), set(second)
    common = [name for name in first if name in in_second]
    if not common:
        received = f"{len(first)} and {len(second)} tensors, none of one name"
        raise RequestError(f"two updates must have tensors in common; received {received}")
    alone = [(name, "the first") for name in first if name not in in_second]
    alone += [(name, "the second") for name in second if name not in in_first]
    return common, [Skipped(name=name, reason=f"only {which} model changes it") for name, which in alone]
