"""Three-round Hadamard blocks on the CPU: rows in pieces of whole groups, each piece one call of a compiled kernel."""

from __future__ import annotations

import functools
from functools import partial

import numpy as np
import torch
from torch import Tensor

from idim.kernels import blocks_numba as compiled
from idim.kernels import threads
from idim.kernels.bits import Key
from idim.kernels.blocks import LANES, WORD, Groups, Layout

PIECE = 1 << 18  # rows worth a call of their own, some 0.1 ms


def _pieces(start: int, stop: int, layout: Layout) -> list[Groups]:
    """Split rows [start, stop) into whole groups: few pieces, as each piece of the transpose has a sum of length n."""
    limit = max(8, min(32, (1 << 16) // layout.n))
    return list(layout.batches(start, stop, max(PIECE, -(-(stop - start) // limit))))


def _overlap(groups: Groups, start: int, size: int, n: int) -> tuple[slice, int]:
    """Return which of the ``size`` rows from ``start`` on lie in ``groups``, and where the groups begin among these."""
    begin = groups.start - start
    low = max(0, begin)
    return slice(low, min(size, begin + groups.count * groups.blocks * n)), begin - low


@functools.lru_cache(64)
def _words(keys: tuple[Key, Key, Key]) -> compiled.Words:
    return np.array(keys, dtype=np.uint32).ravel()


@functools.lru_cache(64)
def _slots(blocks: int, lanes: int) -> compiled.Slots:
    """Return the lanes of a vector that hold rows, in the order of the rows."""
    return (np.arange(LANES // lanes)[:, None] * lanes + np.arange(blocks)).ravel()


@functools.lru_cache(2)
def _zeros(dtype: torch.dtype) -> Tensor:
    return torch.zeros(WORD * LANES, dtype=dtype)


def _source(z: Tensor, n: int, lanes: int) -> compiled.Floats:
    """Return z padded to n: one number a position, or laid out as a block where its parts share a vector."""
    padded = torch.nn.functional.pad(z, (0, n - z.numel()))
    if lanes == LANES:
        return padded.numpy()
    parts = padded.view(LANES // lanes, 1, -1, WORD).expand(-1, lanes, -1, -1)
    x = parts.reshape(LANES, -1, WORD).permute(1, 2, 0)
    return torch.nn.functional.pad(x, (0, 0, 0, 1)).numpy().ravel()


def lift(z: Tensor, start: int, out: Tensor, base: Tensor | None, layout: Layout, keys: tuple[Key, Key, Key]) -> None:
    """Write rows [start, start + len(out)) of the stacked blocks times ``z``, plus ``base`` if given, into ``out``."""

    def piece(groups: Groups, source: compiled.Floats) -> None:
        at, row = _overlap(groups, start, out.numel(), layout.n)
        target, added = out[at], None if base is None else base[at]
        direct = target.dtype == z.dtype and (added is None or added.dtype == z.dtype)
        rows = target if direct else torch.empty(target.shape, dtype=z.dtype)
        summed = added if direct and added is not None else _zeros(z.dtype)
        shape = layout.n, _words(keys), groups.first, groups.count, _slots(groups.blocks, groups.lanes), groups.lanes
        compiled.lift(source, *shape, row, rows.numpy(), summed.numpy(), int(summed is added))
        if not direct:
            target.copy_(rows if added is None else rows + added)

    pieces = _pieces(start, start + out.numel(), layout)
    sources = {lanes: _source(z, layout.n, lanes) for lanes in {groups.lanes for groups in pieces}}
    threads.run([partial(piece, groups, sources[groups.lanes]) for groups in pieces])


def pull(g: Tensor, start: int, d: int, layout: Layout, dtype: torch.dtype, keys: tuple[Key, Key, Key]) -> Tensor:
    """Return the first ``d`` entries of the transposed blocks times ``g``, the rows from ``start`` on."""

    def piece(groups: Groups, total: Tensor) -> None:
        at, row = _overlap(groups, start, g.numel(), layout.n)
        shape = layout.n, _words(keys), groups.first, groups.count, _slots(groups.blocks, groups.lanes), groups.lanes
        compiled.pull(g[at].to(dtype).numpy(), *shape, row, total.numpy())

    pieces = _pieces(start, start + g.numel(), layout)
    totals = torch.empty(len(pieces), layout.n, dtype=dtype)
    threads.run([partial(piece, groups, total) for groups, total in zip(pieces, totals, strict=True)])
    return torch.from_numpy(totals.numpy().sum(axis=0, dtype=np.float64))[:d].to(dtype)
