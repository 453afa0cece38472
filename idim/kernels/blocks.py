r"""Three-round Hadamard blocks, the definition: which row is which entry of which block.

A block is n^{3/2} times an orthogonal n × n matrix, :math:`B_b = H S_3 H S_2 H S_1`: H is the Walsh–Hadamard
matrix and :math:`S_r` has random signs, that of position p in block b and round r being number
:math:`b \max(n, 32) + p` of the stream "hadamard/r" (:func:`idim.kernels.bits.signs`).

The order of the rows of a random map is free, so it is chosen for vector units: rows come in groups of up to
16 blocks, whose rows interleave. A full group has L blocks, a function of n alone; the last has as many as its
rows need, :math:`m = \lceil \text{rows}/n \rceil`, so that every block is whole when n divides D. With 16 / L
parts of q = n L / 16 positions in a block, position p of lane l (block l of the group) is row

.. math:: r = (p \bmod q)\, \tfrac{16}{L}\, m + \lfloor p / q \rfloor\, m + l

of its group: 16 adjacent rows of a full group are one vector, whatever n. The functions here run on any device
and are the oracle of :mod:`idim.kernels.blocks_cpu`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from idim.kernels.bits import Key, signs, stream_key
from idim.kernels.walsh import fwht

LANES = 16
WORD = 32  # signs in a random number
WIDE = 4096  # up to this n a full group has 16 blocks; above, fewer, lest a short range of rows costs much
GROUP = 1 << 15  # rows in a full group of larger n
BATCH = 1 << 20  # rows made at once by the reference


@dataclass(frozen=True, kw_only=True)
class Groups:
    """``count`` adjacent groups alike: rows from ``start`` on, made of ``blocks`` blocks each from ``first`` on."""

    start: int
    first: int
    count: int
    blocks: int
    lanes: int


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the rows of D rows of stacked blocks of n lie: a function of D and n alone (n a power of two)."""

    D: int
    n: int

    @property
    def lanes(self) -> int:
        """Blocks in a full group."""
        return LANES if self.n <= WIDE else max(1, GROUP // self.n)

    @property
    def rows(self) -> int:
        """Rows in a full group."""
        return self.n * self.lanes

    @property
    def last(self) -> int:
        """Number of the last group, full or not."""
        return (self.D - 1) // self.rows

    def groups(self, index: int, count: int) -> Groups:
        """Return ``count`` groups from number ``index`` on; the last one only alone."""
        blocks = lanes = self.lanes
        if index == self.last:
            blocks = -(-(self.D - index * self.rows) // self.n)
            # at least a word of positions in a part of a block, so that its signs begin with a word
            lanes = min(lanes, max(1 << (blocks - 1).bit_length(), WORD * LANES // self.n))
        return Groups(start=index * self.rows, first=index * self.lanes, count=count, blocks=blocks, lanes=lanes)

    def batches(self, start: int, stop: int, rows: int) -> Iterator[Groups]:
        """Yield the groups that rows [start, stop) touch, about ``rows`` rows at a time."""
        index, end = start // self.rows, (stop - 1) // self.rows + 1
        while index < end:
            count = max(1, min(-(-rows // self.rows), min(end, self.last) - index))
            yield self.groups(index, count)
            index += count


@functools.lru_cache(64)
def sign_keys(seed: int) -> tuple[Key, Key, Key]:
    """Return the keys of the signs of rounds 1, 2 and 3."""
    return stream_key(seed, "hadamard/1"), stream_key(seed, "hadamard/2"), stream_key(seed, "hadamard/3")


def _signs(groups: Groups, layout: Layout, key: Key, like: Tensor) -> Tensor:
    """Return the signs of one round, [all blocks, n]."""
    block = torch.arange(groups.first, groups.first + groups.count * groups.blocks, device=like.device)
    position = torch.arange(layout.n, device=like.device)
    return signs(key, block[:, None] * max(layout.n, WORD) + position, like.dtype)


def _lift_groups(z: Tensor, groups: Groups, layout: Layout, keys: tuple[Key, Key, Key]) -> Tensor:
    x = torch.nn.functional.pad(z, (0, layout.n - z.numel()))
    for key in keys:
        x = fwht(x * _signs(groups, layout, key, z))
    parts = x.view(groups.count, groups.blocks, LANES // groups.lanes, -1)
    return parts.permute(0, 3, 2, 1).reshape(-1)


def _pull_groups(g: Tensor, groups: Groups, layout: Layout, keys: tuple[Key, Key, Key]) -> Tensor:
    parts = g.view(groups.count, -1, LANES // groups.lanes, groups.blocks)
    x = parts.permute(0, 3, 2, 1).reshape(-1, layout.n)
    for key in reversed(keys):
        x = fwht(x) * _signs(groups, layout, key, g)
    return x.sum(dim=0)


def lift(
    z: Tensor, start: int, stop: int, layout: Layout, keys: tuple[Key, Key, Key]
) -> Iterator[tuple[slice, Tensor]]:
    """Yield rows [start, stop) of the stacked blocks times ``z`` (its len(z) first columns), as (where, what)."""
    for groups in layout.batches(start, stop, BATCH):
        rows = _lift_groups(z, groups, layout, keys)
        low, high = max(start, groups.start), min(stop, groups.start + rows.numel())
        yield slice(low - start, high - start), rows[low - groups.start : high - groups.start]


def pull(g: Tensor, start: int, d: int, layout: Layout, keys: tuple[Key, Key, Key]) -> Tensor:
    """Return the first ``d`` entries of the transposed blocks times ``g``, rows [start, start + len(g))."""
    total, stop = g.new_zeros(layout.n), start + g.numel()
    for groups in layout.batches(start, stop, BATCH):
        padded = g.new_zeros(groups.count * groups.blocks * layout.n)
        low, high = max(start, groups.start), min(stop, groups.start + padded.numel())
        padded[low - groups.start : high - groups.start] = g[low - start : high - start]
        total += _pull_groups(padded, groups, layout, keys)
    return total[:d]
