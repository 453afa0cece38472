r"""The header of a safetensors file, read without trust.

A file is 8 bytes (the length N of the header, little endian), N bytes of JSON, and the bytes of the
tensors end to end. The JSON maps each name to ``dtype``, ``shape`` and ``data_offsets``, and may map
``__metadata__`` to strings.

A file is checked whole before anything of a tensor is read: the header lies within the file and under
the format's bound of 100 MB, names are said once, every dtype is known, every shape has as many bytes
as its offsets, and the tensors fill the rest of the file without a gap or an overlap. The JSON is read
entry by entry, each of bounded length, so that hostile nesting costs an error and not memory.

Source: Hugging Face, "Safetensors", format description, https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from json.decoder import scanstring  # type: ignore[attr-defined]  # typeshed leaves it out
from pathlib import Path
from typing import BinaryIO

import torch

from idim.errors import RequestError

LENGTH_BYTES = 8
MOST_BYTES = 100_000_000  # the format's own bound
MOST_AXES = 32
BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F8_E8M0"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
IN_TORCH = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "F16": "float16",
    "BF16": "bfloat16", "U32": "uint32", "I32": "int32", "F32": "float32", "U64": "uint64", "I64": "int64",
    "F64": "float64", "C64": "complex64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz", "F8_E8M0": "float8_e8m0fnu",
}  # fmt: skip
SPACE = re.compile(r"[ \t\r\n]*")
ENTRY = re.compile(r"\{[^{}]{1,4000}\}")


class _Malformed(Exception):
    """What is wrong, in words; becomes one line with the file's name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where one tensor lies in a file: bytes [start, stop) after the beginning of the file.

    ``dtype`` is the format's word; :attr:`torch_dtype` is None where torch has no such dtype.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def torch_dtype(self) -> torch.dtype | None:
        """The dtype of the tensor in torch."""
        return getattr(torch, IN_TORCH.get(self.dtype, ""), None)


@dataclass(frozen=True, kw_only=True)
class Header:
    """Names and places of the tensors of one file, and a hash of the header's bytes."""

    places: dict[str, Place]
    digest: str


def read_header(path: Path) -> Header:
    """Return the checked header of a safetensors file.

    Raises:
        RequestError: when the file cannot be read or is not what the format asks for, with what is wrong.
    """
    try:
        with path.open("rb") as file:
            return _read(file, path.stat().st_size)
    except OSError as error:
        raise RequestError(f"a safetensors file must be readable; received {path}: {error.strerror}") from error
    except _Malformed as error:
        raise RequestError(f"a safetensors file must be whole and well formed; received {path}: {error}") from None


def _read(file: BinaryIO, size: int) -> Header:
    length = int.from_bytes(file.read(LENGTH_BYTES), "little")
    if size < LENGTH_BYTES:
        raise _Malformed(f"it has {size} bytes, fewer than the 8 of the header's length")
    if length > MOST_BYTES:
        raise _Malformed(f"its header says to be {length} bytes long, more than {MOST_BYTES}")
    if LENGTH_BYTES + length > size:
        raise _Malformed(f"its header says to be {length} bytes long in a file of {size}: truncated?")
    content = file.read(length)
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise _Malformed("its header is not UTF-8") from None
    places = _places(text, LENGTH_BYTES + length)
    _check_filled(places, LENGTH_BYTES + length, size)
    return Header(places=places, digest=hashlib.blake2b(content, digest_size=16).hexdigest())


def _places(text: str, begin: int) -> dict[str, Place]:
    places: dict[str, Place] = {}
    members = _Members(text)
    for name in members:
        if name in places:
            raise _Malformed(f"it names tensor {_short(name)} twice")
        if name == "__metadata__":
            members.at = _after_strings(text, members.at)
        else:
            places[name], members.at = _place(text, members.at, name, begin)
    if text[members.at :].strip(" \t\r\n\0"):
        raise _Malformed("its header goes on after the closing brace")
    return places


class _Members:
    """Iterate over the names of a JSON object; whoever reads a value moves ``at`` past it."""

    def __init__(self, text: str, at: int = 0) -> None:
        self.text, self.at = text, at

    def __iter__(self) -> Iterator[str]:
        self._expect("{")
        if self._sees("}"):
            return
        while True:
            yield self._name()
            if self._sees("}"):
                return
            self._expect(",")

    def _name(self) -> str:
        self._expect('"')
        try:
            name, self.at = scanstring(self.text, self.at)
        except ValueError:
            raise _Malformed("its header has a name that is not a JSON string") from None
        self._expect(":")
        self.at = _skip(self.text, self.at)
        return str(name)

    def _sees(self, character: str) -> bool:
        self.at = _skip(self.text, self.at)
        found = self.text.startswith(character, self.at)
        self.at += found
        return found

    def _expect(self, character: str) -> None:
        if not self._sees(character):
            received = self.text[self.at : self.at + 20] or "the end"
            raise _Malformed(f"its header must have {character!r} at character {self.at}, not {received!r}")


def _skip(text: str, at: int) -> int:
    found = SPACE.match(text, at)
    return found.end() if found else at


def _after_strings(text: str, at: int) -> int:
    members = _Members(text, at)
    for name in members:
        if not text.startswith('"', members.at):
            raise _Malformed(f"its metadata {_short(name)} is not a string")
        try:
            _, members.at = scanstring(text, members.at + 1)
        except ValueError:
            raise _Malformed(f"its metadata {_short(name)} is not a JSON string") from None
    return members.at


def _place(text: str, at: int, name: str, begin: int) -> tuple[Place, int]:
    found = ENTRY.match(text, at)
    if not found:
        raise _Malformed(f"its entry of tensor {_short(name)} is no flat JSON object of at most 4000 characters")
    try:
        entry = json.loads(found.group(), object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise _Malformed(f"its entry of tensor {_short(name)} is not JSON") from None
    return _checked(entry, name, begin), found.end()


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a field is said twice")
    return dict(pairs)


def _checked(entry: dict[str, object], name: str, begin: int) -> Place:
    if set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _Malformed(f"tensor {_short(name)} must have dtype, shape and data_offsets; it has {_short(list(entry))}")
    dtype, shape, offsets = entry["dtype"], _naturals(entry["shape"]), _naturals(entry["data_offsets"])
    if not isinstance(dtype, str) or dtype not in BITS:
        raise _Malformed(f"tensor {_short(name)} has the unknown dtype {_short(dtype)}")
    if shape is None or len(shape) > MOST_AXES:
        raise _Malformed(f"tensor {_short(name)} needs a shape of natural numbers, not {_short(entry['shape'])}")
    if offsets is None or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _Malformed(f"tensor {_short(name)} needs data_offsets [start, stop], not {_short(entry['data_offsets'])}")
    start, stop = offsets
    if math.prod(shape) * BITS[dtype] != 8 * (stop - start):
        raise _Malformed(f"tensor {_short(name)}, {dtype} {_short(shape)}, cannot have {stop - start} bytes")
    return Place(dtype=dtype, shape=tuple(shape), start=begin + start, stop=begin + stop)


def _naturals(value: object) -> list[int] | None:
    natural = isinstance(value, list) and all(type(x) is int and 0 <= x < 1 << 63 for x in value)
    return value if natural else None  # type: ignore[return-value]


def _check_filled(places: dict[str, Place], begin: int, size: int) -> None:
    end, before = begin, "the header"
    for name, place in sorted(places.items(), key=lambda item: (item[1].start, item[1].stop)):
        if place.start != end:
            fault = "overlaps" if place.start < end else "leaves a gap after"
            raise _Malformed(f"tensor {_short(name)} {fault} {before}")
        end, before = place.stop, f"tensor {_short(name)}"
    if end != size:
        raise _Malformed(
            f"its tensors end at byte {end} of {size}: {'truncated' if end > size else 'bytes are left over'}"
        )


def _short(value: object) -> str:
    """Return what a file says, on one line of bounded length."""
    text = repr(value) if not isinstance(value, str) else repr(value[:100])
    return text if len(text) <= 80 else f"{text[:77]}..."
