"""Two models side by side: every tensor that both have, read one pair at a time.

``open_pairs`` reads names, shapes and dtypes; :meth:`Pairs.load` reads one pair. What a model can be:

| given | read as |
| --- | --- |
| a safetensors file, or a folder with one, or with shards and their index | the model |
| a folder of a saved ``Subspace`` | theta0 + P z over the base, tensor by tensor |
| a folder of a PEFT adapter | exact factors for LoRA; other kinds merged by peft, one tensor at a time |
| a pickled checkpoint, with ``pickle=True`` | the tensors that ``weights_only`` lets through |
| ``org/name``, ``org/name@revision`` | that model of the hub, from the local cache or downloaded |
| an ``nn.Module``, or a dict of tensors | itself |
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from torch import Tensor, nn

from idim.errors import RequestError
from idim.spectral.pairing.adapters import Adapter, is_adapter
from idim.spectral.pairing.changes import Change, Load, Paired
from idim.spectral.pairing.delta import Delta
from idim.spectral.pairing.matching import match
from idim.spectral.pairing.subspaces import SavedSubspace, is_subspace
from idim.spectral.reading import hub
from idim.spectral.reading.folders import open_files
from idim.spectral.reading.sources import Memory, Skipped, Source

__all__ = ["Model", "Pairs", "Skipped", "open_pairs"]

Model = str | Path | nn.Module | Mapping[str, Tensor]
Resolve = Callable[[str], Path | None]
READER = "1"  # raised when the same files would give other deltas


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """The tensors of two models by name, none of them read yet.

    Attributes:
        names: names of the deltas, as in the base, in natural order.
        skipped: what has no delta, or only for a part, and why.
        base: the base; None for an adapter without its base.
        tuned: the tuned model, or what changes the base.
    """

    names: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    base: Source | None
    tuned: Source | Change
    loads: Mapping[str, Load] = field(repr=False)

    def load(self, name: str) -> Delta:
        """Read one pair.

        Raises:
            RequestError: when a tensor cannot be read or is not finite; the message names it.
        """
        return self.loads[name]()

    @cached_property
    def fingerprint(self) -> str:
        """A hash of what is compared: names, shapes, dtypes, sizes and dates of the files, samples of the numbers.

        Where the files lie is not part of it. Models in memory are hashed whole.
        """
        parts = (READER, self.base.fingerprint if self.base else "", self.tuned.fingerprint, *self.names)
        return hashlib.blake2b("\n".join(parts).encode(errors="backslashreplace"), digest_size=16).hexdigest()


def open_pairs(base: Model | None, tuned: Model, *, pickle: bool = False, resolve: Resolve | None = None) -> Pairs:
    """Pair the tensors of a base and a tuned model by name.

    Args:
        base: the model before; None for an adapter whose base is not at hand.
        tuned: the model after, or an adapter or saved subspace of the base.
        pickle: whether pickled checkpoints may be opened, always with ``weights_only=True``.
        resolve: from a short name to a folder, or None; asked where there is no such file or folder.

    Raises:
        RequestError: for what is not a model, is damaged, or is of another architecture than the base.
    """
    after = _open(tuned, "tuned", pickle, resolve)
    before = None if base is None else _open(base, "base", pickle, resolve)
    if isinstance(before, Change):
        raise RequestError(f"the base must be a whole model; received {before.place}, which only changes one")
    paired = _paired(before, after)
    notes = [note for source in (before, after) if isinstance(source, Source) for note in source.notes]
    return Pairs(
        names=tuple(sorted(paired.loads, key=_natural)),
        skipped=(*dict.fromkeys(notes), *sorted(paired.skipped, key=lambda row: _natural(row.name))),
        base=before,
        tuned=after,
        loads=paired.loads,
    )


def _open(model: Model, word: str, pickle: bool, resolve: Resolve | None) -> Source | Change:
    if isinstance(model, nn.Module | Mapping):
        return Memory(model, f"the {word} in memory")
    place = str(model) if str(model).isprintable() else repr(str(model))  # messages are one line
    path = _located(model, pickle, resolve)
    if path.is_dir() and is_subspace(path):
        return SavedSubspace(path, place)
    if path.is_dir() and is_adapter(path):
        return Adapter(path, place, pickle=pickle)
    return open_files(path, place, pickle=pickle)


def _located(model: str | Path, pickle: bool, resolve: Resolve | None) -> Path:
    """Return the file or folder of a model: a path, a short name, or a name of the hub."""
    path = Path(model)
    if str(model) and (os.path.isfile(path) or os.path.isdir(path)):  # false, and no error, for what can be no path
        return path
    if resolve is not None and (found := resolve(str(model))) is not None:
        return found
    if isinstance(model, str) and hub.looks_like_name(model):
        return hub.fetch(model, pickle=pickle)
    raise RequestError(f"a model must be a file, a folder or a name of the hub; received {str(model)!r}: no such file")


def _paired(before: Source | None, after: Source | Change) -> Paired:
    if isinstance(after, Change):
        if before is None and after.needs_base:
            raise RequestError(f"the change of {after.place} needs its base; received none")
        return after.pair(before)
    if before is None:
        raise RequestError(f"a model is compared with its base; received {after.place} and no base")
    matches = match(before, after)
    return Paired(loads=matches.loads(before, after), skipped=matches.skipped)


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts layer 2 before layer 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
