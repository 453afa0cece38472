"""The idx format of the MNIST files: a header of sizes, then a big-endian array; plain or gzipped.

Bytes: 0, 0, type, number of dimensions n; n sizes of four bytes; the values. (Y. LeCun, C. Cortes and
C. Burges, The MNIST database of handwritten digits, 1998.) The header is checked against the bytes of
the file before anything of the announced size is read or reserved.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from idim.errors import RequestError

Array = np.ndarray[Any, np.dtype[Any]]
TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
DEFLATE_LIMIT = 1032  # no deflate stream expands more: 258 bytes from two bits
CHUNK = 1 << 20


def read(path: Path) -> Array:
    """Return the array of an idx file, in native byte order; ``.gz`` files are unpacked.

    Raises:
        RequestError: when the file cannot be read, is not idx, or is shorter or longer than it announces.
    """
    try:
        with _open(path) as file:
            return _parse(file, path)
    except (OSError, EOFError, zlib.error) as error:
        raise RequestError(f"cannot read {path}: {error}") from error


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _parse(file: IO[bytes], path: Path) -> Array:
    dtype, shape, header = _header(file, path)
    expected = math.prod(shape) * dtype.itemsize
    size = path.stat().st_size
    room = size * DEFLATE_LIMIT if path.suffix == ".gz" else size - header
    if expected > room:
        found = f"at most {room}" if path.suffix == ".gz" else str(room)
        raise _wrong_size(path, shape, expected, found)
    values = _read(file, expected + 1)
    if len(values) != expected:
        raise _wrong_size(path, shape, expected, f"{len(values)}{' or more' if len(values) > expected else ''}")
    return np.frombuffer(values, dtype=dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _header(file: IO[bytes], path: Path) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in TYPES or not 1 <= magic[3] <= 8:
        raise RequestError(
            f"{path} is not an idx file: it must start with 00 00, a type and 1 to 8 dimensions; "
            f"received {magic.hex(' ') or 'no bytes'}"
        )
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise RequestError(f"{path} is truncated: its header has {4 + 4 * magic[3]} bytes; received {4 + len(sizes)}")
    shape = tuple(int(size) for size in np.frombuffer(sizes, dtype=">u4"))
    return np.dtype(TYPES[magic[2]]), shape, 4 + len(sizes)


def _read(file: IO[bytes], limit: int) -> bytes:
    """Return at most ``limit`` bytes; a compressed stream that breaks off gives what came before."""
    parts, left = [], limit
    try:
        while left and (part := file.read(min(CHUNK, left))):
            parts.append(part)
            left -= len(part)
    except EOFError:
        pass
    return b"".join(parts)


def _wrong_size(path: Path, shape: tuple[int, ...], expected: int, found: str) -> RequestError:
    return RequestError(f"{path} announces shape {list(shape)}, {expected} bytes of values; received {found}")
