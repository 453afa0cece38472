"""Many models as vectors: each model minus a base, over the same tensors, read a few rows of all of them at a time.

k models of D numbers never are in memory together: a chunk holds CHUNK numbers, all k models of some rows. What is
read for the first time is hashed on the way, so that a basis can say what it was learned from: by XXH3 with 128 bits,
which tells files apart, not forgeries, in a tenth of the time of SHA-256.
"""

from __future__ import annotations

import functools
import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import torch
import xxhash
from torch import Tensor

from idim.errors import RequestError
from idim.kernels import threads
from idim.learned.changed import Changed, is_change
from idim.parameters import Layout, digest
from idim.projections.base import FLOATS
from idim.spectral.reading.folders import open_files
from idim.spectral.reading.sources import Source

CHUNK = 3 << 20  # numbers in a chunk: 24 MiB of float64
MOST_HELD = 256  # files open at once: a process may have 1,024
STATISTICS = ("*running_mean", "*running_var")  # of batches: state, which no subspace moves


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows [start, stop) of tensor ``index`` of a layout, counted in numbers."""

    index: int
    start: int
    stop: int


class Place:
    """Memory for one chunk of float64 after another: fresh pages for each cost more time than the products with it."""

    def __init__(self) -> None:
        self.memory = torch.empty(0, dtype=torch.float64)

    def of(self, *shape: int) -> Tensor:
        """Return a tensor of this shape, in the place of the last one."""
        if self.memory.numel() < (size := math.prod(shape)):
            self.memory = torch.empty(size, dtype=torch.float64)
        return self.memory[:size].view(shape)


class Vectors:
    """Models minus a base (see the module).

    Args:
        models: the models.
        base: what is taken off each of them.
        layout: the tensors; by name in every model.
        centred: whether the mean of the vectors is taken off too.

    Raises:
        RequestError: for a model without one of the tensors, or with another shape of it.
    """

    def __init__(self, models: Sequence[Source], *, base: Source, layout: Layout, centred: bool = False) -> None:
        self.models, self.base, self.layout, self.centred = tuple(models), base, layout, centred
        for model in (base, *models):
            _check_tensors(model, layout)
        self.hashes = [xxhash.xxh3_128() for _ in models]

    def __len__(self) -> int:
        return len(self.models)

    def chunks(self, *, first: bool = False, again: bool = False) -> Iterator[tuple[Rows, Tensor]]:
        """Yield all rows, a chunk at a time, with the vectors over them: [k, rows], float64, good until the next.

        Args:
            first: hash what is read.
            again: all was read before, and need not be looked through for numbers that are not finite.

        Raises:
            RequestError: when a file cannot be read, or holds numbers that are not finite.
        """
        with ExitStack() as stack:
            files = 0
            for model in (self.base, *self.models):
                files += model.file_count
                if files <= MOST_HELD:
                    stack.enter_context(model.held())
            yield from self._chunks(first, again)

    def _chunks(self, first: bool, again: bool) -> Iterator[tuple[Rows, Tensor]]:
        place = Place()
        for index, name in enumerate(self.layout.names):
            shape = self.layout.shapes[index]
            lines, width = (shape[0], math.prod(shape[1:])) if shape else (1, 1)
            step = max(1, CHUNK // max(1, len(self.models) * width))
            for line in range(0, lines, step):
                last = min(lines, line + step)
                found = self._read(name, line, last, first, place)
                if not again and not math.isfinite(found.sum().item()):
                    raise RequestError(
                        f"models must be finite to be learned from; received other numbers in tensor {name!r}"
                    )
                yield Rows(index=index, start=line * width, stop=last * width), found

    def _read(self, name: str, line: int, last: int, first: bool, place: Place) -> Tensor:
        base = self.base.read(name, line, last).reshape(-1).double()
        vectors = place.of(len(self.models), base.numel())

        def fill(k: int) -> None:
            read = self.models[k].read(name, line, last).contiguous().reshape(-1)
            if first:
                self.hashes[k].update(read.view(torch.uint8).numpy().data)
            vectors[k].copy_(read).sub_(base)  # a fifth faster than one operation on two dtypes

        threads.run(functools.partial(fill, k) for k in range(len(self.models)))
        return vectors.sub_(vectors.mean(0)) if self.centred else vectors

    def base_digest(self) -> str:
        """Return the hash of the base's tensors, as a basis that starts from them has it."""
        return digest(_Read(self.base, self.layout.names))

    def sources(self) -> str:
        """Return the hash of all that was read first: the models, one after another."""
        return hashlib.sha256("".join(found.hexdigest() for found in self.hashes).encode()).hexdigest()[:32]


class _Read(Mapping[str, Tensor]):
    """Tensors of a source, each read when it is looked up."""

    def __init__(self, source: Source, names: Sequence[str]) -> None:
        self.source, self.names = source, names

    def __getitem__(self, name: str) -> Tensor:
        return self.source.read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def open_model(place: str | Path, *, base: Source | None = None) -> Source:
    """Open the safetensors of a model: a file, or a folder with one or with shards and their index.

    Args:
        place: the file or folder.
        base: what a PEFT adapter or a saved subspace changes; without it they are no model.

    Raises:
        RequestError: when there is no such model, or it is a change of another base.
    """
    path = Path(place)
    if not (path.is_file() or path.is_dir()):
        raise RequestError(
            f"a model must be a safetensors file or a folder of them; received {str(place)!r}: not there"
        )
    if is_change(path):
        if base is not None:
            return Changed(base, path)
        raise RequestError(f"a model must hold all of its tensors; received {place}, which changes a base: merge it")
    return open_files(path, str(place), pickle=False)


def layout_of(base: Source, *, include: Sequence[str] = ("*",), exclude: Sequence[str] = ()) -> Layout:
    """Return the float tensors of a model by name patterns, without running statistics, layer by layer.

    Raises:
        RequestError: for a pattern that matches no tensor, or when nothing is left.
    """
    for pattern in (*include, *exclude):
        if not any(fnmatchcase(name, pattern) for name in base.entries):
            raise RequestError(f"pattern {pattern!r} must match a tensor; received {base.place}, where it matches none")
    unwanted = (*exclude, *STATISTICS)
    chosen = {
        name: entry
        for name, entry in sorted(base.entries.items(), key=lambda item: _natural(item[0]))
        if entry.dtype in FLOATS and entry.size and _matches(name, include) and not _matches(name, unwanted)
    }
    if not chosen:
        raise RequestError(f"a basis needs at least one float tensor; received {base.place} with none of those named")
    return Layout(
        names=tuple(chosen),
        shapes=tuple(entry.shape for entry in chosen.values()),
        dtypes=tuple(entry.dtype for entry in chosen.values() if entry.dtype is not None),
    )


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts layer 2 before layer 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _check_tensors(model: Source, layout: Layout) -> None:
    for name, shape in zip(layout.names, layout.shapes, strict=True):
        if name not in model.entries:
            raise RequestError(f"all models must have the same tensors; received {model.place} without {name!r}")
        if (found := model.entries[name].shape) != shape:
            raise RequestError(
                f"tensor {name!r} must have shape {list(shape)} in all models; received {list(found)} in {model.place}"
            )
