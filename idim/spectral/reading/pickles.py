"""Pickled checkpoints as a source, opened only when the user says so, and never trusted with code.

``torch.load(weights_only=True)`` builds tensors and plain containers and refuses everything else.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from idim.errors import RequestError
from idim.spectral.reading.sources import Memory

SUFFIXES = (".bin", ".pt", ".pth", ".th", ".ckpt")
WRAPPERS = ("state_dict", "model_state_dict", "model", "module")


class Pickled(Memory):
    """The tensors of one or more pickled files: state dicts, or dicts that hold one under a usual name.

    Raises:
        RequestError: for a file that holds anything but tensors and plain containers, or is damaged.
    """

    def __init__(self, files: Sequence[Path], place: str) -> None:
        self.files = tuple(files)
        merged: dict[str, Tensor] = {}
        for file in files:
            merged |= _tensors(_content(file), file)
        super().__init__(merged, place)

    def identity(self) -> str:
        """Return the hash of the files' sizes and dates."""
        stamps = [(file.stat().st_size, file.stat().st_mtime_ns) for file in self.files]
        return hashlib.blake2b(repr(stamps).encode(), digest_size=16).hexdigest()


def refuse(file: Path) -> RequestError:
    """Return the error for a pickle without the flag."""
    return RequestError(
        f"a pickle can run code when it is opened; received {file}: save it as safetensors, or pass --pickle "
        "(pickle=True) to read its tensors with weights_only=True"
    )


def _content(file: Path) -> object:
    try:
        # the older format, which is not a zip file, cannot be mapped
        return torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except Exception as error:  # a damaged pickle can raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise RequestError(
            f"a pickle must hold tensors and plain containers only; received {file}: {reason}"
        ) from error


def _tensors(content: object, file: Path) -> dict[str, Tensor]:
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    named = content.items() if isinstance(content, Mapping) else ()
    tensors = {str(name): value for name, value in named if isinstance(value, Tensor)}
    if not tensors:
        raise RequestError(f"a checkpoint must hold named tensors; received {file}, a {type(content).__name__} without")
    return tensors
