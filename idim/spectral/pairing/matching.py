"""Which tensor of the tuned model is which of the base: by name, each with a status.

What cannot be compared is said in words and never becomes a matrix of zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from idim.errors import RequestError
from idim.spectral.pairing.delta import Delta
from idim.spectral.pairing.renaming import Renaming, find_renaming, rename
from idim.spectral.pairing.shapes import View, views
from idim.spectral.reading.sources import Entry, Skipped, Source

LEAST_VOCABULARY = 256  # rows; fewer are classes, whose rows need not be the same classes in both models
CHUNK = 1 << 16
MOST_GROWTH = 0.1  # a vocabulary grows by tokens or to a round number; another one has another size altogether


@dataclass(frozen=True, kw_only=True)
class Partner:
    """One matrix or vector that both models have: names in each, and the rows they share."""

    base: str
    tuned: str
    view: View
    shape: tuple[int, ...]
    rows: int | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Matches:
    """What is compared, by the name of its view, and what is not."""

    partners: Mapping[str, Partner]
    skipped: tuple[Skipped, ...]

    def loads(self, base: Source, tuned: Source) -> dict[str, Callable[[], Delta]]:
        """Return how to read each pair."""
        return {name: partial(stored_delta, partner, base, tuned) for name, partner in self.partners.items()}


def match(base: Source, tuned: Source) -> Matches:
    """Pair the tensors of two models by name.

    Raises:
        RequestError: when fewer than half of the smaller model's tensors have a partner of their shape.
    """
    renaming = find_renaming(tuned.entries, base.entries)
    named = rename(tuned.entries, base.entries, renaming)
    _check_architecture(base, tuned, named)
    duplicates = _duplicates(base, tuned, named)
    compared = pair_named({name: other for name, other in named.items() if name not in duplicates}, base, tuned)
    twins = (Skipped(name=name, reason=reason) for name, reason in duplicates.items())
    skipped = (*_renamed(renaming), *twins, *_only(base, tuned, named), *compared.skipped)
    return Matches(partners=compared.partners, skipped=skipped)


def pair_named(named: Mapping[str, str], base: Source, tuned: Source) -> Matches:
    """Pair tensors whose names in the base and in the tuned source are known; say why where they do not fit."""
    partners: dict[str, Partner] = {}
    skipped = []
    for name, other in named.items():
        if reason := _unfit(name, base, other, tuned):
            skipped.append(Skipped(name=name, reason=reason))
            continue
        if grown := _grown(name, base.entries[name].shape, tuned.entries[other].shape):
            skipped.append(grown)
        partners |= {partner.view.name: partner for partner in _partners(name, base, other, tuned)}
    return Matches(partners=partners, skipped=tuple(skipped))


def stored_delta(partner: Partner, base: Source, tuned: Source) -> Delta:
    """Read both tensors of a pair.

    Raises:
        RequestError: when one cannot be read or is not finite, named.
    """
    view = partner.view
    span = (0, partner.rows) if view.index is None else (view.index, view.index + 1)
    first = require_finite(base.read(partner.base, *span), partner.base, base.place)
    second = require_finite(tuned.read(partner.tuned, *span), partner.tuned, tuned.place)
    return Delta(
        name=view.name,
        shape=partner.shape,
        matrix=view.matrix,
        reshaped=view.reshaped,
        base=view.of(first),
        tuned=view.of(second),
        note=partner.note,
    )


def require_finite(tensor: Tensor, name: str, place: str) -> Tensor:
    """Return the tensor, unless it holds NaN or infinity.

    Raises:
        RequestError: with the name of the tensor, the model, and how many of its entries are not finite.
    """
    parts = (tensor,) if tensor.element_size() > 1 else torch.split(tensor.reshape(-1), CHUNK)  # fp8 has no order
    if all(_finite(part) for part in parts):
        return tensor
    bad = int(sum((~torch.isfinite(part.float())).sum() for part in torch.split(tensor.reshape(-1), CHUNK)))
    raise RequestError(
        f"every number must be finite; received {bad} NaN or infinite of {tensor.numel()} in {name!r} of {place}"
    )


def _finite(tensor: Tensor) -> bool:
    """Say whether the extremes are finite: NaN is one, where there is any; the fastest of torch's ways by far."""
    low, high = torch.aminmax(tensor if tensor.element_size() > 1 else tensor.float())
    return bool(torch.isfinite(low) & torch.isfinite(high))


def unusable(name: str, source: Source) -> str:
    """Return why a tensor is not weights to compare, or ""."""
    entry = source.entries[name]
    if entry.dtype is None:
        return f"stored as {entry.stored}, for which torch {torch.__version__} has no dtype"
    if not entry.dtype.is_floating_point:
        return f"{str(entry.dtype).removeprefix('torch.')}, not real numbers"
    if not entry.size:
        return f"no entries: shape {entry.shape}"
    if entry.dtype.itemsize == 1 and (scale := _scale(name, source.entries)):
        return f"{entry.stored} to be multiplied with {scale}: compare the numbers themselves, dequantised"
    return ""


def _check_architecture(base: Source, tuned: Source, named: Mapping[str, str]) -> None:
    alike = sum(_shared(base.entries[a].shape, tuned.entries[b].shape) is not None for a, b in named.items())
    smaller = min(len(base.entries), len(tuned.entries))
    if 2 * alike < smaller or not alike:
        raise RequestError(
            f"base and tuned must be of one architecture; received {base.place} with {len(base.entries)} tensors and "
            f"{tuned.place} with {len(tuned.entries)}: {len(named)} names match, {alike} of them in shape"
        )


def _renamed(renaming: Renaming) -> Iterator[Skipped]:
    if text := str(renaming):
        yield Skipped(name=f"{renaming.taken or renaming.put}*", reason=f"renamed, and compared: {text}")


def _only(base: Source, tuned: Source, named: Mapping[str, str]) -> Iterator[Skipped]:
    """Yield the tensors that one model alone has: tied to one that is compared, or on their own."""
    for word, source, paired in (("base", base, named.keys()), ("tuned model", tuned, named.values())):
        for name in source.entries:
            if name not in paired:
                twin = _twin(name, source, paired)
                tied = f"tied: the {word} stores the numbers of {twin} here once more, the other model once"
                yield Skipped(name=name, reason=tied if twin else f"only in the {word}")


def _twin(name: str, source: Source, others: Collection[str]) -> str:
    """Return another tensor of a source with the same numbers, or ""."""
    if len(source.entries[name].shape) < 2:
        return ""
    return next((other for other in others if source.same(name, other)), "")


def _duplicates(base: Source, tuned: Source, named: Mapping[str, str]) -> dict[str, str]:
    """Return the pairs that hold the numbers of an earlier pair, in both models, each with that reason."""
    alike: dict[tuple[object, ...], list[str]] = {}
    for name, other in named.items():
        shape, sample = base.entries[name].shape, base.sample(name)
        if len(shape) > 1 and any(sample):  # zeros in many places are not tied
            alike.setdefault((shape, sample, tuned.sample(other)), []).append(name)
    return {
        name: f"tied: it holds the numbers of {first}, in both models"
        for first, *others in alike.values()
        for name in others
        if base.same(first, name) and tuned.same(named[first], named[name])
    }


def _unfit(name: str, base: Source, other: str, tuned: Source) -> str:
    if reason := unusable(name, base) or unusable(other, tuned):
        return reason
    first, second = base.entries[name].shape, tuned.entries[other].shape
    return "" if _shared(first, second) is not None else f"shape {first} in the base and {second} in the tuned model"


def _scale(name: str, entries: Mapping[str, Entry]) -> str:
    return next((name + ending for ending in ("_scale_inv", "_scale") if name + ending in entries), "")


def _shared(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the shape that two tensors share: the whole, or the rows of the smaller vocabulary; None if none."""
    if first == second:
        return first
    if not first or not second or first[1:] != second[1:]:
        return None
    small, large = sorted((first[0], second[0]))
    return (small, *first[1:]) if small >= LEAST_VOCABULARY and large - small <= MOST_GROWTH * small else None


def _grown(name: str, first: tuple[int, ...], second: tuple[int, ...]) -> Skipped | None:
    if first == second:
        return None
    small, large = sorted((first[0], second[0]))
    where = "tuned model" if second[0] == large else "base"
    reason = f"rows only in the {where}: the {small} rows of both are compared"
    return Skipped(name=f"{name}[{small}:{large}]", reason=reason)


def _partners(name: str, base: Source, other: str, tuned: Source) -> Iterator[Partner]:
    first, second = base.entries[name], tuned.entries[other]
    shape = _shared(first.shape, second.shape) or ()
    notes = [] if first.dtype == second.dtype else [f"{_word(first)} in the base, {_word(second)} tuned"]
    if first.shape != second.shape:
        notes.append(f"rows 0 to {shape[0] - 1} of {first.shape[0]} and {second.shape[0]}")
    for view in views(name, shape):
        rows = shape[0] if shape else None
        yield Partner(base=name, tuned=other, view=view, shape=shape, rows=rows, note="; ".join(notes))


def _word(entry: Entry) -> str:
    return str(entry.dtype).removeprefix("torch.")
