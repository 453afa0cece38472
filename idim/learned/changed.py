"""A PEFT adapter or a saved subspace as the model that it makes of its base, tensor by tensor."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from idim.spectral.pairing.adapters import Adapter, is_adapter
from idim.spectral.pairing.changes import Change
from idim.spectral.pairing.shapes import views
from idim.spectral.pairing.subspaces import SavedSubspace, is_subspace
from idim.spectral.reading.sources import Source


def is_change(path: Path) -> bool:
    """Whether a folder holds a change of a base rather than a model."""
    return path.is_dir() and (is_adapter(path) or is_subspace(path))


class Changed(Source):
    """A base with the change of a folder on it; what the change leaves alone is the base's.

    Changed tensors are float64, base plus change, so that nothing of a small change is rounded away. The one that was
    read last is kept, because a model is read a few rows at a time.

    Raises:
        RequestError: when the change is damaged, or is another base's.
    """

    def __init__(self, base: Source, folder: Path) -> None:
        change: Change = Adapter(folder, str(folder)) if is_adapter(folder) else SavedSubspace(folder, str(folder))
        paired = change.pair(base)
        self.place, self.base, self.change = str(folder), base, change
        self.entries, self.notes, self.loads = base.entries, paired.skipped, paired.loads
        self._last: tuple[str, Tensor] | None = None

    def identity(self) -> str:
        """Return the fingerprint of the change."""
        return self.change.fingerprint

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Return the tensor, or some of its rows, as the change leaves it."""
        parts = [view for view in views(name, self.entries[name].shape) if view.name in self.loads]
        if not parts:
            return self.base.read(name, start, stop)
        if self._last is None or self._last[0] != name:
            tensor = self.base.read(name).double()
            for view in parts:
                into = tensor if view.index is None else tensor[view.index]
                into += self.loads[view.name]().difference(torch.float64).reshape(into.shape)
            self._last = name, tensor
        return self._last[1][start:stop] if self.entries[name].shape else self._last[1]
