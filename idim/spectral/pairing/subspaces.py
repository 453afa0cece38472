r"""A saved ``Subspace`` as a change of its base: :math:`\theta_0 + P z`, tensor by tensor.

The save holds z, the spec of P, the names of the tensors inside P in the order of their rows, and a hash
of what they stand on. The tensor at rows [a, b) of :math:`\theta` becomes base + P[a:b] z, rounded to the
dtype of the base as training rounds it. Tensors that were trained directly, and buffers that changed, are
in the save as they are.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch import Tensor

from idim import projections
from idim.errors import RequestError
from idim.spectral.pairing.changes import Change, Load, Paired
from idim.spectral.pairing.delta import Delta
from idim.spectral.pairing.matching import pair_named, require_finite
from idim.spectral.pairing.renaming import find_renaming, rename
from idim.spectral.pairing.shapes import View, views
from idim.spectral.reading.sources import Memory, Skipped, Source
from idim.subspace import stored


def is_subspace(folder: Path) -> bool:
    """Say whether a folder holds a saved subspace."""
    return (folder / stored.RECORD).is_file()


class SavedSubspace(Change):
    """The change that a saved subspace makes to its base.

    Raises:
        RequestError: for a save that is damaged, or that does not name its tensors.
    """

    def __init__(self, folder: Path, place: str) -> None:
        self.place = place
        self.record, tensors = stored.read(folder)
        self.inside, self.hashed = (_names(self.record, field, place) for field in ("inside", "hashed"))
        self.projection = projections.load(self.record["projection"])
        if "z" not in tensors:
            raise RequestError(f"a saved subspace must hold z; received {place}, which does not")
        self.z = tensors.pop("z")
        self.direct = Memory({name.removeprefix("model."): tensor for name, tensor in tensors.items()}, place)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the record, z and the tensors of the save."""
        numbers = stored.digest({"z": self.z, **self.direct.tensors})
        text = f"{json.dumps(self.record, sort_keys=True)} {numbers}"
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def pair(self, base: Source | None) -> Paired:
        """Find the tensors of the save in the base, and check that the base is the one it was trained from.

        Raises:
            RequestError: when names, sizes or the hash of the base are not those of the save.
        """
        assert base is not None  # needs_base
        names = dict.fromkeys((*self.inside, *self.hashed, *self.direct.entries))
        own = {mine: theirs for theirs, mine in rename(names, base.entries, find_renaming(names, base.entries)).items()}
        self._check_names(base, own)
        self._check_hash(base, own)
        loads: dict[str, Load] = {}
        for start, mine in zip(self._offsets(base, own), self.inside, strict=False):
            for view in views(own[mine], base.entries[own[mine]].shape):
                loads[view.name] = partial(self._moved, base, own[mine], view, start)
        direct = pair_named({own[mine]: mine for mine in self.direct.entries if mine in own}, base, self.direct)
        return Paired(
            loads=loads | direct.loads(base, self.direct),
            skipped=(*direct.skipped, *self._left_out(base, own)),
        )

    def _left_out(self, base: Source, own: Mapping[str, str]) -> Iterator[Skipped]:
        for mine in self.direct.entries:
            if mine not in own:
                yield Skipped(name=mine, reason="only in the saved subspace, trained directly")
        if rest := len(base.entries.keys() - {own.get(mine) for mine in (*self.inside, *self.direct.entries)}):
            yield Skipped(name="*", reason=f"{rest} tensors of the base are outside the subspace, unchanged")

    def _check_names(self, base: Source, own: Mapping[str, str]) -> None:
        missing = [name for name in (*self.inside, *self.hashed) if name not in own]
        if missing:
            raise RequestError(
                f"the base must have every tensor of the subspace {self.place}; received {base.place} without "
                f"{missing[0]!r} and {len(missing) - 1} more of {len(self.inside)} inside and {len(self.hashed)} hashed"
            )
        D = sum(base.entries[own[name]].size for name in self.inside)
        if (wanted := self.projection.D) != D:
            raise RequestError(f"the base must have D = {wanted} numbers inside; received {base.place} with {D}")

    def _check_hash(self, base: Source, own: Mapping[str, str]) -> None:
        found = stored.digest(_Named(base, {name: own[name] for name in self.hashed}))
        if found != (wanted := self.record["base"]):
            raise RequestError(
                f"the base must be that of {self.place}, with hash {wanted}; received {base.place} with {found}"
            )

    def _offsets(self, base: Source, own: Mapping[str, str]) -> Iterator[int]:
        return itertools.accumulate((base.entries[own[name]].size for name in self.inside), initial=0)

    def _moved(self, base: Source, name: str, view: View, start: int) -> Delta:
        span = (0, None) if view.index is None else (view.index, view.index + 1)
        theta0 = require_finite(base.read(name, *span), name, base.place)
        start += (view.index or 0) * theta0.numel()
        rows = self.projection.rows(start, start + theta0.numel())
        theta = rows.matvec(self.z, base=theta0.reshape(-1)).view(theta0.shape)
        return Delta(
            name=view.name,
            shape=base.entries[name].shape,
            matrix=view.matrix,
            reshaped=view.reshaped,
            base=view.of(theta0),
            tuned=view.of(theta),
            made=f"theta0 + P z ({self.projection.kind}, d = {self.projection.d})",
        )


class _Named(Mapping[str, Tensor]):
    """Tensors of a source under other names, each read when it is looked up."""

    def __init__(self, source: Source, names: Mapping[str, str]) -> None:
        self.source, self.names = source, names

    def __getitem__(self, name: str) -> Tensor:
        return self.source.read(self.names[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def _names(record: Mapping[str, Any], field: str, place: str) -> tuple[str, ...]:
    names = record.get(field)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RequestError(f"a saved subspace must list its names, {field!r}; received {place} without: save it again")
    return tuple(names)
