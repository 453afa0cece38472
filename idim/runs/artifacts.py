"""Tensors of a run as files: ``artifacts/<key>/`` holds the network before, during and after its training.

``base.safetensors`` has the initial parameters, ``step-000100.safetensors`` those after 100 steps,
``tuned.safetensors`` those at the end, under the names of the pretrained network's own files. What is
kept is asked of an engine and is no part of a run: it changes neither its key nor its numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from idim.errors import RequestError
from idim.files import replace_file
from idim.runs.spec import RunSpec

READABLE = 0o644
BASE, TUNED = "base.safetensors", "tuned.safetensors"


@dataclass(frozen=True, kw_only=True)
class Keep:
    """Which tensors of every run are written.

    Args:
        folder: the folder ``artifacts`` of a store.
        steps: after these numbers of steps too; those beyond a run's end are not written.
        only: name patterns of the tensors that the files hold; all by default. What is there is not written again
            for other patterns.

    Raises:
        RequestError: for a step below 1.
    """

    folder: Path
    steps: tuple[int, ...] = ()
    only: tuple[str, ...] = ("*",)

    def __post_init__(self) -> None:
        if any(step < 1 for step in self.steps):
            raise RequestError(f"steps to keep must be at least 1; received {min(self.steps)}")

    def path(self, spec: RunSpec) -> Path:
        """Return the folder of a run."""
        return self.folder / spec.key

    def names(self, spec: RunSpec) -> list[str]:
        """Return the names of a run's files, in the order they are written."""
        steps = () if spec.recipe.optimizer == "lbfgs" else sorted(self.steps)  # its steps are inside the optimizer
        return [BASE, *(step_name(s) for s in steps if s <= spec.recipe.steps), TUNED]

    def complete(self, spec: RunSpec) -> bool:
        """Whether all files of a run are there."""
        return all((self.path(spec) / name).is_file() for name in self.names(spec))

    def write(self, spec: RunSpec, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Write one file of a run; it is whole or absent.

        Raises:
            RequestError: when the disk refuses.
        """
        folder = self.path(spec)
        tensors = {n: t for n, t in tensors.items() if any(fnmatchcase(n, pattern) for pattern in self.only)}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RequestError(f"the folder {folder} must be writable; received: {error.strerror}") from error
        with replace_file(folder / name) as temporary:
            save_file({key: t.contiguous() for key, t in _once(tensors).items()}, temporary, {"key": spec.key})
            temporary.chmod(READABLE)  # as other files; safetensors leaves it to its owner alone

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data; ``Keep.from_json`` is the inverse."""
        return {"folder": str(self.folder), "steps": list(self.steps), "only": list(self.only)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Keep:
        """Return it from plain data."""
        return cls(folder=Path(content["folder"]), steps=tuple(content["steps"]), only=tuple(content["only"]))


def step_name(step: int) -> str:
    """Return the name of the file after so many steps."""
    return f"step-{step:06d}.safetensors"


def _once(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return each tensor once, under its first name: safetensors refuses tied ones."""
    seen: set[tuple[int, tuple[int, ...]]] = set()
    kept = {}
    for name, tensor in tensors.items():
        place = (tensor.data_ptr(), tuple(tensor.shape))
        if place not in seen or not tensor.numel():
            kept[name] = tensor
        seen.add(place)
    return kept
