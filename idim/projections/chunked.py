"""Kinds that work through their rows in chunks, so that nothing of size D is made beside the output.

A chunk is regenerated, used and dropped. On the CPU it goes through a compiled loop over numpy
arrays; on another device, and as the oracle of the tests, through torch functions on
:mod:`idim.kernels.bits`, which are the definition. Chunks begin at multiples of the chunk length,
whatever rows are asked for, and are dealt out by their number alone: results do not depend on threads.
"""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from idim.kernels import threads
from idim.projections.base import Projection, compute_dtype

CHUNK = 1 << 16  # rows: 256 KiB of float32, which stays in a core's second-level cache

SHARES = 8  # sums of length d that are made side by side, whatever the number of threads


@dataclass(frozen=True, kw_only=True)
class Chunked(Projection):
    """A projection given by four functions of a chunk of rows: lift and pull, reference and compiled."""

    @abstractmethod
    def _lift_reference(self, z: Tensor, start: int, stop: int) -> Tensor:
        """Return rows [start, stop) of P z, in the dtype and on the device of ``z``."""

    @abstractmethod
    def _pull_reference(self, g: Tensor, start: int) -> Tensor:
        """Return Pᵀ g over rows [start, start + len(g)), in the dtype and on the device of ``g``."""

    @abstractmethod
    def _lift_compiled(self, z: np.ndarray, start: int, out: np.ndarray) -> None:
        """Write rows [start, start + len(out)) of P z into ``out``, of the dtype of ``z``."""

    @abstractmethod
    def _pull_compiled(self, g: np.ndarray, start: int, total: np.ndarray) -> None:
        """Add Pᵀ g over rows [start, start + len(g)) to ``total``, float64."""

    @property
    def _chunk(self) -> int:
        """Rows in a chunk: at least d rounded up, so that sums of length d cost no more than the rows."""
        return max(CHUNK, 1 << (self.d - 1).bit_length())

    def _chunks(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        low = start
        while low < stop:
            high = min(stop, (low // self._chunk + 1) * self._chunk)
            yield low, high
            low = high

    def _lift(self, z: Tensor, start: int, out: Tensor, base: Tensor | None) -> None:
        in_place = out.device.type == "cpu" and out.dtype == z.dtype and not _share(out, base)

        def part(low: int, high: int) -> None:
            rows = slice(low - start, high - start)
            if in_place:
                self._lift_compiled(z.numpy(), low, out[rows].numpy())
            values = out[rows] if in_place else self._lift_chunk(z, low, high)
            if base is not None:
                values += base[rows]
            if not in_place:
                out[rows] = values

        chunks = self._chunks(start, start + out.numel())
        threads.run(functools.partial(part, *chunk) for chunk in chunks)

    def _lift_chunk(self, z: Tensor, start: int, stop: int) -> Tensor:
        if z.device.type != "cpu":
            return self._lift_reference(z, start, stop)
        values = torch.empty(stop - start, dtype=z.dtype)
        self._lift_compiled(z.numpy(), start, values.numpy())
        return values

    def _pull(self, g: Tensor, start: int) -> Tensor:
        dtype, on_cpu = compute_dtype(g), g.device.type == "cpu"
        chunks = list(self._chunks(start, start + g.numel()))
        shares = [chunks[k::SHARES] for k in range(min(SHARES, len(chunks)))]
        totals = torch.zeros(len(shares), self.d, dtype=torch.float64 if on_cpu else dtype, device=g.device)

        def part(share: list[tuple[int, int]], total: Tensor) -> None:
            for low, high in share:
                self._pull_chunk(g[low - start : high - start].to(dtype), low, total)

        threads.run(functools.partial(part, *pair) for pair in zip(shares, totals, strict=True))
        for total in totals[1:]:
            totals[0] += total
        return totals[0].to(dtype)

    def _pull_chunk(self, g: Tensor, start: int, total: Tensor) -> None:
        if g.device.type == "cpu":
            self._pull_compiled(g.numpy(), start, total.numpy())
        else:
            total += self._pull_reference(g, start)


def _share(out: Tensor, base: Tensor | None) -> bool:
    return base is not None and base.untyped_storage().data_ptr() == out.untyped_storage().data_ptr()
