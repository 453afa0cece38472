"""Compiled transpose of three-round Hadamard blocks: the steps of :mod:`idim.kernels.blocks_numba`, backwards.

The rows are those of one or two arrays (:func:`pull`), or the lines of a table of which few are not zero
(:func:`pull_lines`). A group of zero rows is passed over: it would add zeros to sums that begin at +0, and that
changes no bit of them.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from idim.kernels import tiles
from idim.kernels.blocks_numba import (
    Floats,
    Plan,
    Slots,
    Words,
    aligned,
    draw,
    finish_round,
    first_field,
    log2,
    slots_of,
    turn_high,
    turn_low,
)
from idim.kernels.vectors import LANES, LOW, PITCH

Lines = NDArray[np.int64]


@numba.njit(nogil=True, cache=True)
def absorb(x: Floats, highs: int, lows: int, slots: Slots, row: int, g: Floats, more: Floats) -> None:
    """Load the rows that lie in ``g`` and ``more``, end to end, zeros elsewhere; transform over ``low``.

    The group begins at ``row``, of any sign.
    """
    bits = log2(lows)
    for high in range(highs):
        stop, beyond = row + lows * slots.size, row - g.size
        if slots.size == LANES and row >= 0 and stop <= g.size:
            tiles.absorb(x, g, bits, high, row)
        elif slots.size == LANES and beyond >= 0 and stop <= g.size + more.size:
            tiles.absorb(x, more, bits, high, beyond)
        else:
            _gather(x[high * PITCH :], lows, slots, row, g, more)
            tiles.plain_low(x, bits, high)
        row = stop


@numba.njit(nogil=True, cache=True)
def _gather(x: Floats, lows: int, slots: Slots, row: int, g: Floats, more: Floats) -> None:
    for i in range(lows * LANES):
        x[i] = 0
    for low in range(lows):
        for slot in slots:
            if 0 <= row < g.size:
                x[low * LANES + slot] = g[row]
            elif g.size <= row < g.size + more.size:
                x[low * LANES + slot] = more[row - g.size]
            row += 1


@numba.njit(nogil=True, cache=True)
def pull(g: Floats, more: Floats, n: int, keys: Words, plan: Plan, start: int, totals: Floats) -> None:
    """Write to ``totals[i]`` the transposed product of groups ``plan[i]`` with the rows from ``start`` on.

    The rows are those of ``g`` and then those of ``more``, so that the gradients of two tensors need not be joined.
    """
    for i in range(len(plan)):
        row, first, count, blocks, lanes = plan[i]
        _pull_groups(g, more, n, keys, first, count, slots_of(blocks, lanes), lanes, row - start, totals[i])


@numba.njit(nogil=True, cache=True)
def pull_share(
    g: Floats, more: Floats, scale: float, n: int, keys: Words, plan: Plan, start: int, total: Floats
) -> None:
    """Write to ``total`` [d] scale times the first entries of the sum, in float64, of what :func:`pull` writes."""
    factor = total.dtype.type(scale)
    totals = np.empty((len(plan), n), total.dtype)
    pull(g, more, n, keys, plan, start, totals)
    for j in range(total.size):
        value = np.float64(totals[0, j])
        for i in range(1, len(plan)):
            value += totals[i, j]
        total[j] = total.dtype.type(value) * factor


@numba.njit(nogil=True, cache=True)
def _pull_groups(
    g: Floats,
    more: Floats,
    n: int,
    keys: Words,
    first: int,
    count: int,
    slots: Slots,
    lanes: int,
    row: int,
    total: Floats,
) -> None:
    """Write to ``total`` [n] the transposed product of ``count`` groups with their rows in ``g`` and ``more``."""
    part = n * lanes // LANES
    highs, lows, blocks = max(1, part // LOW), min(part, LOW), slots.size * lanes // LANES
    x, words = aligned(highs * PITCH, g), aligned(highs * LANES, keys)
    sums = aligned(highs * PITCH, g)
    for i in range(sums.size):
        sums[i] = 0
    for group in range(count):
        absorb(x, highs, lows, slots, row + group * n * blocks, g, more)
        pull_group(x, words, sums, n, keys, first + group * blocks, highs, lows, lanes)
    collect(sums, lanes, highs, lows, total)


@numba.njit(nogil=True, cache=True)
def pull_lines(lines: Lines, values: Floats, n: int, keys: Words, plan: Plan, start: int, totals: Floats) -> None:
    """Write to ``totals[i]`` what :func:`pull` writes, where the rows are zero outside some lines of a table.

    Row ``start + width * lines[i] + j`` is ``values[i, j]``; the lines ascend.
    """
    for i in range(len(plan)):
        row, first, count, blocks, lanes = plan[i]
        _pull_lines(lines, values, n, keys, first, count, slots_of(blocks, lanes), lanes, row - start, totals[i])


@numba.njit(nogil=True, cache=True)
def _pull_lines(
    lines: Lines,
    values: Floats,
    n: int,
    keys: Words,
    first: int,
    count: int,
    slots: Slots,
    lanes: int,
    row: int,
    total: Floats,
) -> None:
    """Write to ``total`` [n] the transposed product of ``count`` groups with the lines that they meet."""
    part = n * lanes // LANES
    highs, lows, blocks = max(1, part // LOW), min(part, LOW), slots.size * lanes // LANES
    x, words, sums = aligned(highs * PITCH, values), aligned(highs * LANES, keys), aligned(highs * PITCH, values)
    rows, width, line = np.empty(n * blocks, values.dtype), values.shape[1], 0
    sums[:] = 0
    for group in range(count):
        low = row + group * rows.size
        while line < lines.size and (lines[line] + 1) * width <= low:
            line += 1
        if line < lines.size and lines[line] * width < low + rows.size:
            _place(lines, values, line, low, rows)
            absorb(x, highs, lows, slots, 0, rows, rows[:0])
            pull_group(x, words, sums, n, keys, first + group * blocks, highs, lows, lanes)
    collect(sums, lanes, highs, lows, total)


@numba.njit(nogil=True, cache=True)
def _place(lines: Lines, values: Floats, line: int, low: int, rows: Floats) -> None:
    """Write rows [low, low + rows.size) of the table, whose first line that is not zero is ``lines[line]``."""
    rows[:] = 0
    width = values.shape[1]
    while line < lines.size and lines[line] * width < low + rows.size:
        at = lines[line] * width - low
        for j in range(max(0, -at), min(width, rows.size - at)):
            rows[at + j] = values[line, j]
        line += 1


@numba.njit(nogil=True, cache=True)
def pull_group(
    x: Floats, words: Words, sums: Floats, n: int, keys: Words, first: int, highs: int, lows: int, lanes: int
) -> None:
    """Add to ``sums`` the transposed product of the group of block ``first`` with the rows absorbed into ``x``."""
    for sign in range(2, -1, -1):
        draw(words, keys[2 * sign : 2 * sign + 2], first, max(1, n // LOW), highs, lanes)
        finish_round(x, highs, lows, lanes)
        if sign == 2:
            turn_high(x, words, highs, lows)
        elif sign == 1:
            turn_low(x, words, highs, lows)
        else:
            _leave(x, words, sums, highs, lows)


@numba.njit(nogil=True, cache=True)
def _leave(x: Floats, words: Words, total: Floats, highs: int, lows: int) -> None:
    width = first_field(highs)
    for outer in range(highs >> width):
        for low in range(lows):
            tiles.leave(x, words, total, width, outer << width, 1, low)


@numba.njit(nogil=True, cache=True)
def collect(sums: Floats, lanes: int, highs: int, lows: int, total: Floats) -> None:
    """Write to ``total`` the sums over blocks, that is over the lanes of each part."""
    for first in range(0, LANES, lanes):
        for high in range(highs):
            for low in range(lows):
                at = np.uint64(high * PITCH + low * LANES + first)  # signed indices may be negative, which takes time
                value = sums[at]
                for lane in range(np.uint64(1), np.uint64(lanes)):
                    value += sums[at + lane]
                total[first // lanes * highs * lows + high * lows + low] = value
