"""Operations on tiles of up to 32 vectors held in registers, for compiled code: butterflies, signs, loads and stores.

A loop over lanes leaves it to the compiler to find the vectors, and one bounds or aliasing check hides
them. Here each operation emits LLVM vector code itself, and LLVM maps 16 lanes to what the machine has.

:mod:`idim.kernels.vectors` says what a block x, its low and high tiles and its words of signs are. H is the
transform over a tile of ``2**bits`` vectors, bits = 0 to 5, for each lane by itself; S flips signs. Nothing is
checked: callers own the bounds. Numba's cache does not see a change here; after one, remove ``__pycache__``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import extending
from numba.core import types

from idim.kernels.vectors import INDEX, LANES, MASK, WORD, Array, Tile, hash32, mix_lanes, splat

MAX_BITS = 5

Emit = Callable[..., None]


def intrinsic(function: Callable[..., Any]) -> Any:
    """Return ``function`` as an operation of compiled code, which calls it without the first argument."""
    return extending.intrinsic(function)


def _in_sizes(
    emit: Emit, arrays: tuple[Any, ...], place: tuple[Any, ...], offsets: tuple[Any, ...] = ()
) -> tuple[Any, Emit]:
    """Return signature and code of an operation for every tile size, chosen by ``place[0]``, the bits.

    ``offsets`` are further arguments after the place.
    """
    signature = types.void(*arrays, *(types.int64 for _ in place + offsets))

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        count, end = len(arrays), len(arrays) + len(place)
        x = [Array(context, builder, k, a) for k, a in zip(arrays, arguments[:count], strict=True)]
        done = builder.append_basic_block("done")
        switch = builder.switch(arguments[count], done)
        for bits in range(MAX_BITS + 1):
            case = builder.append_basic_block(f"bits{bits}")
            switch.add_case(INDEX(bits), case)
            builder.position_at_end(case)
            emit(Tile(builder, 1 << bits, *arguments[count + 1 : end]), *x, *arguments[end:])
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return signature, generate


def _plain(tile: Tile, x: Array) -> None:
    tile.store(x, tile.transform(tile.load(x)))


def _turn(tile: Tile, x: Array, words: Array) -> None:
    tile.store(x, tile.transform(tile.flip(tile.transform(tile.load(x)), words)))


def _enter(tile: Tile, x: Array, words: Array, z: Array) -> None:
    tile.store(x, tile.transform(tile.flip(tile.splat(z), words)))


def _enter_wide(tile: Tile, x: Array, words: Array, z: Array) -> None:
    tile.store(x, tile.transform(tile.flip(tile.load(z), words)))


def _emit(tile: Tile, x: Array, out: Array, base: Array, at: Any, base_at: Any) -> None:
    b = tile.builder
    for row, v in zip(tile.rows, tile.transform(tile.load(x)), strict=True):
        out.store(b.add(at, row), b.fadd(base.load(b.add(base_at, row)), v))


def _absorb(tile: Tile, x: Array, g: Array, at: Any) -> None:
    tile.store(x, tile.transform([g.load(tile.builder.add(at, row)) for row in tile.rows]))


def _leave(tile: Tile, x: Array, words: Array, total: Array) -> None:
    tile.add_to(total, tile.flip(tile.transform(tile.load(x)), words))


@intrinsic
def plain_low(typing: Any, x: Any, bits: Any, high: Any) -> Any:
    """Set x to H x on a low tile."""
    return _in_sizes(_plain, (x,), (bits, high))


@intrinsic
def plain_high(typing: Any, x: Any, bits: Any, high: Any, leap: Any, low: Any) -> Any:
    """Set x to H x on a high tile."""
    return _in_sizes(_plain, (x,), (bits, high, leap, low))


@intrinsic
def turn_low(typing: Any, x: Any, words: Any, bits: Any, high: Any) -> Any:
    """Set x to H S H x on a low tile."""
    return _in_sizes(_turn, (x, words), (bits, high))


@intrinsic
def turn_high(typing: Any, x: Any, words: Any, bits: Any, high: Any, leap: Any, low: Any) -> Any:
    """Set x to H S H x on a high tile."""
    return _in_sizes(_turn, (x, words), (bits, high, leap, low))


@intrinsic
def enter(typing: Any, x: Any, words: Any, z: Any, bits: Any, high: Any, leap: Any, low: Any) -> Any:
    """Set x to H S z on a high tile, for z with one number a position, the same in all lanes."""
    return _in_sizes(_enter, (x, words, z), (bits, high, leap, low))


@intrinsic
def enter_wide(typing: Any, x: Any, words: Any, z: Any, bits: Any, high: Any, leap: Any, low: Any) -> Any:
    """Set x to H S z on a high tile, for z laid out as x."""
    return _in_sizes(_enter_wide, (x, words, z), (bits, high, leap, low))


@intrinsic
def emit(typing: Any, x: Any, out: Any, base: Any, bits: Any, high: Any, at: Any, base_at: Any) -> Any:
    """Set out to base + H x for a low tile x, at ``at`` of ``out`` and ``base_at`` of ``base``."""
    return _in_sizes(_emit, (x, out, base), (bits, high), (at, base_at))


@intrinsic
def absorb(typing: Any, x: Any, g: Any, bits: Any, high: Any, at: Any) -> Any:
    """Set x to H g for a low tile x, from ``at`` of ``g``."""
    return _in_sizes(_absorb, (x, g), (bits, high), (at,))


@intrinsic
def leave(typing: Any, x: Any, words: Any, total: Any, bits: Any, high: Any, leap: Any, low: Any) -> Any:
    """Set total to total + S H x on a high tile; ``total`` is laid out as x."""
    return _in_sizes(_leave, (x, words, total), (bits, high, leap, low))


@intrinsic
def mix(typing: Any, x: Any, at: Any, apart: Any) -> Any:
    """Set x to H x within the vector at offset ``at``, over the bits of the lane number from ``apart`` (1 to 8) on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = Array(context, builder, signature.args[0], arguments[0])
        done = builder.append_basic_block("mixed")
        switch = builder.switch(arguments[2], done)
        for apart in (1, 2, 4, 8):
            case = builder.append_basic_block(f"apart{apart}")
            switch.add_case(INDEX(apart), case)
            builder.position_at_end(case)
            v = array.load(arguments[1])
            for h in (h for h in (1, 2, 4, 8) if h >= apart):
                v = mix_lanes(builder, v, h)
            array.store(arguments[1], v)
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(x, types.int64, types.int64), generate


@intrinsic
def draw(typing: Any, words: Any, starts: Any, key0: Any, key1: Any, high: Any) -> Any:
    """Set words to hash of the indices ``starts[l] + high``; ``starts`` is 16 low halves, then 16 high halves."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        out, starts = (Array(context, builder, k, a) for k, a in zip(signature.args[:2], arguments[:2], strict=True))
        keys = (splat(builder, arguments[2]), splat(builder, arguments[3]))
        first = starts.load(INDEX(0))
        low = builder.add(first, splat(builder, builder.trunc(arguments[4], WORD)))
        carry = builder.zext(builder.icmp_unsigned("<", low, first), MASK)
        index = low, builder.add(starts.load(INDEX(LANES)), carry)
        out.store(builder.mul(arguments[4], INDEX(LANES)), hash32(builder, keys, *index))
        return context.get_dummy_value()

    return types.void(words, starts, types.uint32, types.uint32, types.int64), generate
