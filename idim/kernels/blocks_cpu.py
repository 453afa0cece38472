"""Three-round Hadamard blocks on the CPU: rows in shares of whole groups, each share one call of a compiled kernel."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from idim.kernels import blocks_numba as compiled
from idim.kernels import blocks_pull, threads
from idim.kernels.bits import Key
from idim.kernels.blocks import LANES, WORD, Groups, Layout

Integers = NDArray[np.int64]

PIECE = 1 << 18  # rows worth a call of their own, some 0.1 ms


@dataclass(frozen=True, kw_only=True)
class Share:
    """Rows [start, stop) and the groups that hold them: the work of one call."""

    start: int
    stop: int
    plan: compiled.Plan


def _pieces(start: int, stop: int, layout: Layout) -> list[Groups]:
    """Split rows [start, stop) into whole groups: few pieces, as each piece of the transpose has a sum of length n."""
    limit = max(8, min(32, (1 << 16) // layout.n))
    return list(layout.batches(start, stop, max(PIECE, -(-(stop - start) // limit))))


@functools.lru_cache(1024)  # a training step asks for the same rows each time
def _shares(start: int, stop: int, layout: Layout) -> tuple[Share, ...]:
    """Return the pieces of rows [start, stop) as shares; a small last piece goes with the one before it.

    The last group is a piece of its own, and handing it to another thread would cost more than doing it.
    """
    pieces = _pieces(start, stop, layout)
    plan = np.array([(p.start, p.first, p.count, p.blocks, p.lanes) for p in pieces], dtype=np.int64)
    small = pieces[-1].count * pieces[-1].blocks * layout.n < PIECE
    parts = np.split(plan, range(1, len(plan) - 1 if small else len(plan)))
    edges = [start, *(int(part[0, 0]) for part in parts[1:]), stop]
    return tuple(Share(start=a, stop=b, plan=part) for (a, b), part in zip(pairwise(edges), parts, strict=True))


@functools.lru_cache(64)
def _words(keys: tuple[Key, Key, Key]) -> compiled.Words:
    return np.array(keys, dtype=np.uint32).ravel()


@functools.lru_cache(2)
def _zeros(dtype: torch.dtype) -> compiled.Floats:
    return torch.zeros(WORD * LANES, dtype=dtype).numpy()


def lift(
    z: Tensor,
    start: int,
    out: Tensor,
    base: Tensor | None,
    layout: Layout,
    keys: tuple[Key, Key, Key],
    *,
    scale: float,
) -> None:
    """Write rows [start, start + len(out)) of the blocks times scale * z, plus ``base`` if given, into ``out``."""
    shared, zeros = (z.numpy(), scale, layout.n, _words(keys)), _zeros(z.dtype)

    def converted(share: Share) -> None:
        at = slice(share.start - start, share.stop - start)
        rows = torch.empty(share.stop - share.start, dtype=z.dtype)
        compiled.lift(*shared, share.plan, share.start, rows.numpy(), zeros, 0)
        out[at] = rows if base is None else rows + base[at]

    if out.dtype == z.dtype and (base is None or base.dtype == z.dtype):
        rows, added, step = out.numpy(), zeros if base is None else base.numpy(), int(base is not None)
        direct = partial(compiled.lift, *shared)
        tasks = [partial(direct, s.plan, start, rows, added, step) for s in _shares(start, start + len(rows), layout)]
    else:
        tasks = [partial(converted, share) for share in _shares(start, start + out.numel(), layout)]
    threads.run(tasks)


def pull(
    parts: Sequence[Tensor],
    start: int,
    d: int,
    layout: Layout,
    dtype: torch.dtype,
    keys: tuple[Key, Key, Key],
    *,
    scale: float,
) -> Tensor:
    """Return scale times the first ``d`` entries of the transposed blocks times the rows from ``start`` on.

    The rows are ``parts``, end to end; the first of them, which may be large, is not copied.
    """
    g, more = parts[0], parts[0][:0] if len(parts) == 1 else torch.cat(list(parts[1:]))
    size = g.numel()
    shares, words = _shares(start, start + size + more.numel(), layout), _words(keys)
    if len(shares) == 1:
        total = torch.empty(d, dtype=dtype)
        rows = g.to(dtype).numpy(), more.to(dtype).numpy()
        blocks_pull.pull_share(*rows, scale, layout.n, words, shares[0].plan, start, total.numpy())
        return total

    def pulled(share: Share, totals: compiled.Floats) -> None:
        low, high = share.start - start, share.stop - start
        rows = g[low:high].to(dtype), more[max(0, low - size) : max(0, high - size)].to(dtype)
        blocks_pull.pull(rows[0].numpy(), rows[1].numpy(), layout.n, words, share.plan, share.start, totals)

    return _summed(pulled, shares, layout, dtype)[:d].to(dtype) * scale


def _summed(
    work: Callable[[Share, compiled.Floats], None], shares: Sequence[Share], layout: Layout, dtype: torch.dtype
) -> Tensor:
    """Return the float64 sum, shape [n], of the totals that ``work`` writes, one for each piece of the shares."""
    totals = torch.empty(sum(len(share.plan) for share in shares), layout.n, dtype=dtype).numpy()
    threads.run([partial(work, share, totals[i:]) for i, share in enumerate(shares)])
    return torch.from_numpy(totals.sum(axis=0, dtype=np.float64))


def lift_groups(
    z: Tensor,
    numbers: Integers,
    start: int,
    out: Tensor,
    base: Tensor,
    layout: Layout,
    keys: tuple[Key, Key, Key],
    *,
    scale: float,
) -> None:
    """Write the rows of groups ``numbers``, ascending, that lie in ``out``, as :func:`lift` does; leave the others.

    ``out`` and ``base`` have the dtype of ``z``.
    """
    plan = _plan_of(numbers, layout)
    parts = np.array_split(plan, min(len(plan), -(-len(numbers) * layout.rows // PIECE)))
    shared, ends = (z.numpy(), scale, layout.n, _words(keys)), (start, out.numpy(), base.numpy(), 1)
    threads.run([partial(compiled.lift, *shared, part, *ends) for part in parts])


def _plan_of(numbers: Integers, layout: Layout) -> compiled.Plan:
    """Return groups ``numbers`` as few adjacent runs, the last group of all, which differs, as one of its own."""
    edges = np.flatnonzero((np.diff(numbers) != 1) | (numbers[1:] == layout.last)) + 1
    runs = [(int(run[0]), len(run)) for run in np.split(numbers, edges)]
    groups = (layout.groups(*run) for run in runs)
    return np.array([(g.start, g.first, g.count, g.blocks, g.lanes) for g in groups], dtype=np.int64)


def pull_lines(
    lines: Integers,
    values: Tensor,
    start: int,
    stop: int,
    d: int,
    layout: Layout,
    dtype: torch.dtype,
    keys: tuple[Key, Key, Key],
    *,
    scale: float,
) -> Tensor:
    """Return what :func:`pull` returns for a table in rows [start, stop), zero but for lines ``lines``, ascending.

    Line i of the table is ``values.shape[1]`` adjacent rows; ``values[k]`` is its line ``lines[k]``.
    """
    table, words = values.to(dtype).numpy(), _words(keys)

    def pulled(share: Share, totals: compiled.Floats) -> None:
        blocks_pull.pull_lines(lines, table, layout.n, words, share.plan, start, totals)

    return _summed(pulled, _shares(start, stop, layout), layout, dtype)[:d].to(dtype) * scale
