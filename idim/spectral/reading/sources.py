"""Where named tensors come from: one contract over files, folders and models in memory.

A source knows names, shapes and dtypes at once and reads a tensor, or some of its rows, when asked.
It keeps no tensor that it has read.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from idim.errors import RequestError
from idim.subspace.stored import digest

SAMPLED_ROWS = 4
SAMPLED_ENTRIES = 256


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """What a report leaves out, and why; ``name`` is that of a tensor or of a file."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A tensor that a source has: its shape and dtype (None where torch has none for the word ``stored``)."""

    shape: tuple[int, ...]
    dtype: torch.dtype | None
    stored: str

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)


class Source(ABC):
    """Named tensors that can be read one at a time.

    Attributes:
        place: what the user called it, for messages and reports.
        entries: names, shapes and dtypes of all tensors.
        notes: what the reader of a report should know of the source itself.
        file_count: how many files it reads from.
    """

    place: str
    entries: Mapping[str, Entry]
    notes: tuple[Skipped, ...] = ()
    file_count: int = 0

    def held(self) -> AbstractContextManager[None]:
        """Keep open what is read from, as long as many reads follow one another."""
        return nullcontext()

    @abstractmethod
    def read(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Return the tensor, or its rows [start, stop) along the first axis, in the stored dtype.

        Raises:
            RequestError: when the bytes cannot be read.
        """

    @abstractmethod
    def identity(self) -> str:
        """Return what tells this source from an older one of the same name, beside samples of its tensors."""

    def sample(self, name: str) -> bytes:
        """Return a hash of some of a tensor's bytes, spread over its rows; zero where they are all zero."""
        if name not in self._samples:
            content = self._some_bytes(name)
            self._samples[name] = hashlib.blake2b(content, digest_size=16).digest() if any(content) else bytes(16)
        return self._samples[name]

    @cached_property
    def _samples(self) -> dict[str, bytes]:
        return {}

    def _some_bytes(self, name: str) -> bytes:
        entry = self.entries[name]
        if not entry.size or entry.dtype is None:
            return b""
        if not entry.shape:
            return _bytes(self.read(name))
        last = entry.shape[0] - 1
        rows = sorted({last * i // (SAMPLED_ROWS - 1) for i in range(SAMPLED_ROWS)})
        return b"".join(_bytes(self.read(name, i, i + 1).reshape(-1)[:SAMPLED_ENTRIES]) for i in rows)

    @cached_property
    def fingerprint(self) -> str:
        """A hash that changes with the names, shapes, dtypes and :meth:`identity`, and with most contents."""
        total = hashlib.blake2b(self.identity().encode(), digest_size=16)
        for name in sorted(self.entries):
            entry = self.entries[name]
            total.update(f"{name!r} {entry.stored} {entry.shape};".encode())
            total.update(self.sample(name))
        return total.hexdigest()

    def same(self, first: str, second: str, chunk: int = 1 << 20) -> bool:
        """Say whether two tensors hold the same bytes; reads no further than the first difference."""
        one, other = self.entries[first], self.entries[second]
        if (one.shape, one.stored) != (other.shape, other.stored) or self.sample(first) != self.sample(second):
            return False
        edges = range(0, one.shape[0], max(1, chunk * one.shape[0] // one.size)) if one.shape and one.size else ()
        bounds = itertools.pairwise((*edges, one.shape[0] if one.shape else 0))
        return all(_bytes(self.read(first, a, b)) == _bytes(self.read(second, a, b)) for a, b in bounds)


class Memory(Source):
    """Tensors of a model or a dict in memory; a tied tensor is there under each of its names.

    Raises:
        RequestError: for anything else, or a dict with other values than tensors.
    """

    def __init__(self, tensors: nn.Module | Mapping[str, Tensor], place: str) -> None:
        self.place = place
        named = tensors.state_dict() if isinstance(tensors, nn.Module) else tensors
        self.tensors = {str(name): _plain(name, tensor) for name, tensor in named.items()}
        self.entries = {name: entry_of(tensor) for name, tensor in self.tensors.items()}

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Return a view of the tensor or its rows, on the CPU."""
        tensor = self.tensors[name]
        return (tensor[start:stop] if tensor.ndim else tensor).cpu()

    def identity(self) -> str:
        """Return a hash of all the numbers: they have no file whose date would tell."""
        return digest(self.tensors)


def entry_of(tensor: Tensor) -> Entry:
    """Return shape and dtype of a tensor."""
    return Entry(shape=tuple(tensor.shape), dtype=tensor.dtype, stored=str(tensor.dtype).removeprefix("torch."))


def _plain(name: object, tensor: object) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise RequestError(f"a model in memory must be named tensors; received {name!r}: {type(tensor).__name__}")
    if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
        raise RequestError(f"tensor {name!r} must be dense and hold numbers; received {tensor.layout} {tensor.dtype}")
    return tensor.detach()


def _bytes(tensor: Tensor) -> bytes:
    return bytes(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
