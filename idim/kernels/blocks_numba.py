"""Compiled kernels of three-round Hadamard blocks: the numbers of :mod:`idim.kernels.blocks`, to round-off.

A group of blocks is one array of vectors, lane = block (vectors.py says how it is laid out), that stays in the
cache from z to the rows. Position p = 32 high + low: H is the product of H over ``low``, over one or more fields
of bits of ``high``, and over the parts in a vector, in any order, so neighbouring rounds share a pass over memory:
with two factors, three transforms and three sign changes are four passes. Here are the steps and the way from z to
the rows; :mod:`idim.kernels.blocks_pull` has the way back.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from idim.kernels import tiles
from idim.kernels.tiles import MAX_BITS
from idim.kernels.vectors import LANES, LOW, PITCH

Floats = NDArray[np.floating]
Words = NDArray[np.uint32]
Slots = NDArray[np.int64]
Plan = NDArray[np.int64]  # adjacent groups alike, one row: first row, first block, count, blocks, lanes


@numba.njit(inline="always")
def log2(n: int) -> int:
    """Return the least b with 2^b at least ``n``."""
    bits = 0
    while (1 << bits) < n:
        bits += 1
    return bits


@numba.njit(nogil=True, cache=True)
def first_field(highs: int) -> int:
    """Return the width of the first field of the bits of ``high``: fields of nearly equal width, at most 5."""
    bits = log2(highs)
    return bits // max(1, (bits + MAX_BITS - 1) // MAX_BITS)


@numba.njit(nogil=True, cache=True)
def finish_round(x: Floats, highs: int, lows: int, apart: int) -> None:
    """Transform over the fields of ``high`` but the first, and over the parts in a vector."""
    bits = log2(highs)
    shift = first_field(highs)
    while shift < bits:
        left = bits - shift
        width = left // ((left + MAX_BITS - 1) // MAX_BITS)
        for outer in range(highs >> (shift + width)):
            for inner in range(1 << shift):
                for low in range(lows):
                    tiles.plain_high(x, width, (outer << (shift + width)) + inner, 1 << shift, low)
        shift += width
    if apart < LANES:
        for high in range(highs):
            for low in range(lows):
                tiles.mix(x, high * PITCH + low * LANES, apart)


@numba.njit(nogil=True, cache=True)
def turn_low(x: Floats, words: Words, highs: int, lows: int) -> None:
    """Transform over ``low``, change signs, transform over ``low``."""
    bits = log2(lows)
    for high in range(highs):
        tiles.turn_low(x, words, bits, high)


@numba.njit(nogil=True, cache=True)
def turn_high(x: Floats, words: Words, highs: int, lows: int) -> None:
    """Transform over the first field of ``high``, change signs, transform over it again."""
    width = first_field(highs)
    for outer in range(highs >> width):
        for low in range(lows):
            tiles.turn_high(x, words, width, outer << width, 1, low)


@numba.njit(nogil=True, cache=True)
def _enter(x: Floats, words: Words, z: Floats, highs: int, lows: int, apart: int) -> None:
    width = first_field(highs)
    for outer in range(highs >> width):
        for low in range(lows):
            if apart == LANES:
                tiles.enter(x, words, z, width, outer << width, 1, low)
            else:
                tiles.enter_wide(x, words, z, width, outer << width, 1, low)


@numba.njit(nogil=True, cache=True)
def draw(words: Words, key: Words, first: int, per_block: int, highs: int, lanes: int) -> None:
    """Write the words of one round: lane l holds block ``first + l % lanes``, part ``l // lanes``."""
    starts = np.empty(2 * LANES, np.uint32)
    for lane in range(LANES):
        start = (first + lane % lanes) * per_block + lane // lanes * highs
        starts[lane], starts[LANES + lane] = np.uint32(start), np.uint32(start >> 32)
    for high in range(highs):
        tiles.draw(words, starts, key[0], key[1], high)


@numba.njit(nogil=True, cache=True)
def aligned(size: int, like: NDArray[Any]) -> NDArray[Any]:
    """Return an uninitialised array that begins on a cache line, so that no vector straddles two."""
    raw = np.empty(size + LANES, like.dtype)
    skip = (-np.int64(raw.ctypes.data)) % 64 // raw.itemsize
    return raw[skip : skip + size]


@numba.njit(nogil=True, cache=True)
def _emit(x: Floats, highs: int, lows: int, slots: Slots, row: int, out: Floats, base: Floats, step: int) -> None:
    """Transform over ``low`` and write the rows that lie in ``out``, where the group begins at ``row``."""
    bits = log2(lows)
    for high in range(highs):
        stop = row + lows * slots.size
        if slots.size == LANES and row >= 0 and stop <= out.size:
            tiles.emit(x, out, base, bits, high, row, row * step)
        elif row < out.size and stop > 0:
            tiles.plain_low(x, bits, high)
            _scatter(x[high * PITCH :], lows, slots, row, out, base, step)
        row = stop


@numba.njit(nogil=True, cache=True)
def _scatter(x: Floats, lows: int, slots: Slots, row: int, out: Floats, base: Floats, step: int) -> None:
    for low in range(lows):
        for slot in slots:
            if 0 <= row < out.size:
                out[row] = base[row * step] + x[low * LANES + slot]
            row += 1


@numba.njit(nogil=True, cache=True)
def slots_of(blocks: int, lanes: int) -> Slots:
    """Return the lanes of a vector that hold rows, in the order of the rows."""
    slots = np.empty(LANES // lanes * blocks, np.int64)
    for i in range(slots.size):
        slots[i] = i // blocks * lanes + i % blocks
    return slots


@numba.njit(nogil=True, cache=True)
def _source(z: Floats, scale: float, n: int, lanes: int) -> Floats:
    """Return scale * z padded to n: one number a position, or laid out as a block where its parts share a vector."""
    factor = z.dtype.type(scale)
    if lanes == LANES:
        source = np.zeros(n, z.dtype)
        for i in range(z.size):
            source[i] = z[i] * factor
        return source
    part = n * lanes // LANES
    source = np.zeros(part // LOW * PITCH, z.dtype)
    for i in range(z.size):
        position = i % part
        at = position // LOW * PITCH + position % LOW * LANES + i // part * lanes
        source[at : at + lanes] = z[i] * factor
    return source


@numba.njit(nogil=True, cache=True)
def lift(
    z: Floats, scale: float, n: int, keys: Words, plan: Plan, start: int, out: Floats, base: Floats, step: int
) -> None:
    """Write into ``out``, rows from ``start`` on, those that groups of the plan have, plus ``base[step * row]``."""
    for i in range(len(plan)):
        row, first, count, blocks, lanes = plan[i]
        source = _source(z, scale, n, lanes)
        _lift_groups(source, n, keys, first, count, slots_of(blocks, lanes), lanes, row - start, out, base, step)


@numba.njit(nogil=True, cache=True)
def _lift_groups(
    source: Floats,
    n: int,
    keys: Words,
    first: int,
    count: int,
    slots: Slots,
    lanes: int,
    row: int,
    out: Floats,
    base: Floats,
    step: int,
) -> None:
    """Write the rows of ``count`` groups, the first of which has its first row at ``row`` of ``out``, of any sign."""
    part = n * lanes // LANES
    highs, lows = max(1, part // LOW), min(part, LOW)
    per_block, blocks = max(1, n // LOW), slots.size * lanes // LANES
    x, words = aligned(highs * PITCH, source), aligned(highs * LANES, keys)
    for group in range(count):
        for sign in range(3):
            draw(words, keys[2 * sign : 2 * sign + 2], first + group * blocks, per_block, highs, lanes)
            if sign == 0:
                _enter(x, words, source, highs, lows, lanes)
            elif sign == 1:
                turn_low(x, words, highs, lows)
            else:
                turn_high(x, words, highs, lows)
            finish_round(x, highs, lows, lanes)
        _emit(x, highs, lows, slots, row + group * n * blocks, out, base, step)
