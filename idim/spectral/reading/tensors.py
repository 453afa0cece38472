"""Safetensors files as a source: one file, or the shards of one model.

Bytes are read into memory of their own, not mapped: mapped pages stay in the process's resident memory
for as long as the system likes, and a model of any size must be read in the memory of one pair of tensors.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
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
        self.place, self.file_count = place, len(files)
        self.headers: dict[Path, Header] = {}
        self._held: dict[Path, int] = {}
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
            self._fill(flat, file, spot.start + rows.start * width)
        values = flat.view(spot.torch_dtype)
        return values.view(len(rows), *spot.shape[1:]) if spot.shape else values.view(())

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the files open meanwhile: opening one costs as much as reading 200 kB of it."""
        with ExitStack() as stack:
            self._held = {file: stack.enter_context(_opened(file)) for file in self.headers}
            try:
                yield
            finally:
                self._held = {}

    def _fill(self, flat: Tensor, file: Path, offset: int) -> None:
        """Read the bytes of a file from ``offset`` on into all of ``flat``."""
        held = self._held.get(file)
        if held is not None:
            _read(flat, file, held, offset)
            return
        with _opened(file) as number:
            _read(flat, file, number, offset)

    def identity(self) -> str:
        """Return the hash of each header, with the file's size and date."""
        return ";".join(f"{header.digest} {_stamp(file)}" for file, header in self.headers.items())


def _stamp(file: Path) -> str:
    status = file.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


@contextmanager
def _opened(file: Path) -> Iterator[int]:
    """Yield the number of the open file."""
    try:
        number = os.open(file, os.O_RDONLY)
    except OSError as error:
        raise _unreadable(file, error) from error
    try:
        yield number
    finally:
        os.close(number)


def _read(flat: Tensor, file: Path, number: int, offset: int) -> None:
    left = memoryview(flat.numpy())  # type: ignore[arg-type]  # a uint8 array has the buffer protocol
    try:
        while left:
            if not (count := os.preadv(number, [left], offset)):  # the system may give fewer bytes than asked for
                raise RequestError(f"the file {file} must stay as it is while it is read; it has become shorter")
            left, offset = left[count:], offset + count
    except OSError as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: OSError) -> RequestError:
    return RequestError(f"a safetensors file must be readable; received {file}: {error.strerror}")
