"""Safetensors files as a source: one file, or the shards of one model.

Bytes are read into memory of their own, not mapped: mapped pages stay in the process's resident memory
for as long as the system likes, and a model of any size must be read in the memory of one pair of tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from idim.errors import RequestError
from idim.spectral.reading.header import Header, Place, read_header
from idim.spectral.reading.sources import Entry, Source


class Safetensors(Source):
    """The tensors of one or more safetensors files.

    Args:
        files: the files; no name may be in two of them.
        place: what the user called them.

    Raises:
        RequestError: for a file that is not well formed (see :mod:`idim.spectral.reading.header`), or a name in
            two files.
    """

    def __init__(self, files: Sequence[Path], place: str) -> None:
        self.place = place
        self.headers: dict[Path, Header] = {}
        self.places: dict[str, tuple[Path, Place]] = {}
        for file in files:
            self.headers[file] = read_header(file)
            for name, spot in self.headers[file].places.items():
                if name in self.places:
                    both = f"{self.places[name][0].name} and {file.name}"
                    raise RequestError(f"a tensor must be in one file; received {name!r} in {both}")
                self.places[name] = file, spot
        self.entries = {
            name: Entry(shape=spot.shape, dtype=spot.torch_dtype, stored=spot.dtype)
            for name, (_, spot) in self.places.items()
        }

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Read a tensor, or its rows [start, stop), into memory of its own."""
        file, spot = self.places[name]
        if spot.torch_dtype is None:
            raise RequestError(f"torch {torch.__version__} has no dtype for {name!r}; received {spot.dtype} in {file}")
        count = spot.shape[0] if spot.shape else 1
        rows = range(count)[start:stop]
        width = (spot.stop - spot.start) // max(count, 1)
        flat = torch.empty(len(rows) * width, dtype=torch.uint8)
        if len(rows):
            _fill(flat, file, spot.start + rows.start * width)
        values = flat.view(spot.torch_dtype)
        return values.view(len(rows), *spot.shape[1:]) if spot.shape else values.view(())

    def identity(self) -> str:
        """Return the hash of each header, with the file's size and date."""
        return ";".join(f"{header.digest} {_stamp(file)}" for file, header in self.headers.items())


def _stamp(file: Path) -> str:
    status = file.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def _fill(flat: Tensor, file: Path, offset: int) -> None:
    """Read the bytes of a file from ``offset`` on into all of ``flat``."""
    left = memoryview(flat.numpy())  # type: ignore[arg-type]  # a uint8 array has the buffer protocol
    try:
        with file.open("rb", buffering=0) as raw:
            raw.seek(offset)
            while left:
                if not (count := raw.readinto(left)):  # the system may give fewer bytes than asked for
                    raise RequestError(f"the file {file} must stay as it is while it is read; it has become shorter")
                left = left[count:]
    except OSError as error:
        raise RequestError(f"a safetensors file must be readable; received {file}: {error.strerror}") from error
