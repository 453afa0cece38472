r"""Butterflies on tiles of up to 32 vectors of 16 lanes, held in registers: building blocks of the CPU kernels.

A loop over lanes leaves it to the compiler to find the vectors, and one bounds or aliasing check hides
them. Here each operation emits LLVM vector code itself, and LLVM maps 16 lanes to what the machine has.

A block x holds position :math:`p = 32\,\mathrm{high} + \mathrm{low}` of 16 lanes in one vector, the vector
after every 32 being padding: strides of a power of two would put a whole tile into one set of a cache.
A *low* tile is the ``2**bits`` adjacent positions at ``high``, low = 0, 1, …; a *high* tile is the positions
``high + j * leap`` at one ``low``, j < ``2**bits``. H is the transform over the tile, for each lane by itself;
S flips signs: lane l of position p is minus where bit ``low`` of ``words[16 * high + l]`` is set.
``bits`` is 0 to 5, and nothing is checked: callers own the bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import extending
from numba.core import types

from idim.kernels.bits import HIGH, MIX_A, MIX_B, PHI

LANES = 16
LOW = 32  # positions between paddings, and signs in a word
PITCH = (LOW + 1) * LANES  # elements from one ``high`` to the next
MAX_BITS = 5

_INDEX, _WORD = ir.IntType(64), ir.IntType(32)
_MASK = ir.VectorType(_WORD, LANES)
Vectors = list[Any]
Emit = Callable[..., None]


def intrinsic(function: Callable[..., Any]) -> Any:
    """Return ``function`` as an operation of compiled code, which calls it without the first argument."""
    return extending.intrinsic(function)


class _Array:
    """An array argument of generated code, seen as vectors of 16 lanes; offsets count elements."""

    def __init__(self, context: Any, builder: Any, kind: Any, value: Any) -> None:
        self.builder = builder
        self.data = context.make_array(kind)(context, builder, value).data
        self.bytes = kind.dtype.bitwidth // 8
        self.vector = ir.VectorType(context.get_data_type(kind.dtype), LANES)

    def _pointer(self, at: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(self.data, [at]), self.vector.as_pointer())

    def load(self, at: Any) -> Any:
        return self.builder.load(self._pointer(at), align=self.bytes)

    def store(self, at: Any, vector: Any) -> None:
        self.builder.store(vector, self._pointer(at), align=self.bytes)

    def splat(self, at: Any) -> Any:
        return _splat(self.builder, self.builder.load(self.builder.gep(self.data, [at])))


class _Tile:
    """The places of a tile: offsets into x, into the words, and positions; and the bits of its signs."""

    def __init__(self, builder: Any, size: int, high: Any, leap: Any = None, low: Any = None) -> None:
        self.builder, self.size = builder, size
        steps = [_INDEX(j) for j in range(size)]
        if leap is None:
            self.highs, self.lows = [high] * size, steps
        else:
            self.highs, self.lows = [builder.add(high, builder.mul(leap, j)) for j in steps], [low] * size
        self.bits = [builder.trunc(b, _WORD) for b in self.lows]
        self.words = [builder.mul(h, _INDEX(LANES)) for h in self.highs]
        self.positions = self._at(LOW, 1)
        self.rows = [builder.mul(j, _INDEX(LANES)) for j in steps]
        self.places = self._at(PITCH, LANES)

    def _at(self, high: int, low: int) -> Vectors:
        b = self.builder
        pairs = zip(self.highs, self.lows, strict=True)
        return [b.add(b.mul(h, _INDEX(high)), b.mul(w, _INDEX(low))) for h, w in pairs]

    def load(self, x: _Array) -> Vectors:
        return [x.load(place) for place in self.places]

    def splat(self, z: _Array) -> Vectors:
        return [z.splat(position) for position in self.positions]

    def store(self, x: _Array, v: Vectors) -> None:
        for place, u in zip(self.places, v, strict=True):
            x.store(place, u)

    def add_to(self, x: _Array, v: Vectors) -> None:
        self.store(x, [self.builder.fadd(u, w) for u, w in zip(self.load(x), v, strict=True)])

    def transform(self, v: Vectors) -> Vectors:
        h, b = 1, self.builder
        while h < self.size:
            v = [b.fsub(v[i ^ h], v[i]) if i & h else b.fadd(v[i], v[i ^ h]) for i in range(self.size)]
            h *= 2
        return v

    def flip(self, v: Vectors, words: _Array) -> Vectors:
        signs = zip(v, self.words, self.bits, strict=True)
        return [_flip(self.builder, u, words.load(word), bit) for u, word, bit in signs]


def _splat(builder: Any, scalar: Any) -> Any:
    first = builder.insert_element(ir.Constant(ir.VectorType(scalar.type, LANES), ir.Undefined), scalar, _WORD(0))
    return builder.shuffle_vector(first, first, ir.Constant(_MASK, [0] * LANES))


def _flip(builder: Any, v: Any, words: Any, bit: Any) -> Any:
    """Return ``v`` with the sign of each lane changed where ``bit`` of its word is set."""
    size = 32 if isinstance(v.type.element, ir.FloatType) else 64
    integer = ir.IntType(size)
    vector = ir.VectorType(integer, LANES)
    if size == 64:
        words, bit = builder.zext(words, vector), builder.zext(bit, integer)
    moved = builder.shl(words, _splat(builder, builder.sub(integer(size - 1), bit)))
    minus = builder.and_(moved, ir.Constant(vector, [1 << (size - 1)] * LANES))
    return builder.bitcast(builder.xor(builder.bitcast(v, vector), minus), v.type)


def _in_sizes(
    emit: Emit, arrays: tuple[Any, ...], place: tuple[Any, ...], offsets: tuple[Any, ...] = ()
) -> tuple[Any, Emit]:
    """Return signature and code of an operation for every tile size, chosen by ``place[0]``, the bits.

    ``offsets`` are further arguments after the place.
    """
    signature = types.void(*arrays, *(types.int64 for _ in place + offsets))

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        count, end = len(arrays), len(arrays) + len(place)
        x = [_Array(context, builder, k, a) for k, a in zip(arrays, arguments[:count], strict=True)]
        done = builder.append_basic_block("done")
        switch = builder.switch(arguments[count], done)
        for bits in range(MAX_BITS + 1):
            case = builder.append_basic_block(f"bits{bits}")
            switch.add_case(_INDEX(bits), case)
            builder.position_at_end(case)
            emit(_Tile(builder, 1 << bits, *arguments[count + 1 : end]), *x, *arguments[end:])
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return signature, generate


def _plain(tile: _Tile, x: _Array) -> None:
    tile.store(x, tile.transform(tile.load(x)))


def _turn(tile: _Tile, x: _Array, words: _Array) -> None:
    tile.store(x, tile.transform(tile.flip(tile.transform(tile.load(x)), words)))


def _enter(tile: _Tile, x: _Array, words: _Array, z: _Array) -> None:
    tile.store(x, tile.transform(tile.flip(tile.splat(z), words)))


def _enter_wide(tile: _Tile, x: _Array, words: _Array, z: _Array) -> None:
    tile.store(x, tile.transform(tile.flip(tile.load(z), words)))


def _emit(tile: _Tile, x: _Array, out: _Array, base: _Array, at: Any, base_at: Any) -> None:
    b = tile.builder
    for row, v in zip(tile.rows, tile.transform(tile.load(x)), strict=True):
        out.store(b.add(at, row), b.fadd(base.load(b.add(base_at, row)), v))


def _absorb(tile: _Tile, x: _Array, g: _Array, at: Any) -> None:
    tile.store(x, tile.transform([g.load(tile.builder.add(at, row)) for row in tile.rows]))


def _leave(tile: _Tile, x: _Array, words: _Array, total: _Array) -> None:
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


def _mix_vector(builder: Any, v: Any, h: int) -> Any:
    """Return v[l ^ h] ± v[l] in every lane l, minus where l & h."""
    other = builder.shuffle_vector(v, v, ir.Constant(_MASK, [lane ^ h for lane in range(LANES)]))
    both = builder.fadd(other, v), builder.fsub(other, v)
    return builder.shuffle_vector(
        *both, ir.Constant(_MASK, [lane + (LANES if lane & h else 0) for lane in range(LANES)])
    )


@intrinsic
def mix(typing: Any, x: Any, at: Any, apart: Any) -> Any:
    """Set x to H x within the vector at offset ``at``, over the bits of the lane number from ``apart`` (1 to 8) on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = _Array(context, builder, signature.args[0], arguments[0])
        done = builder.append_basic_block("mixed")
        switch = builder.switch(arguments[2], done)
        for apart in (1, 2, 4, 8):
            case = builder.append_basic_block(f"apart{apart}")
            switch.add_case(_INDEX(apart), case)
            builder.position_at_end(case)
            v = array.load(arguments[1])
            for h in (h for h in (1, 2, 4, 8) if h >= apart):
                v = _mix_vector(builder, v, h)
            array.store(arguments[1], v)
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(x, types.int64, types.int64), generate


def _hash32(builder: Any, keys: tuple[Any, Any], low: Any, high: Any) -> Any:
    """Return :func:`idim.kernels.bits.hash32` of vectors of indices."""

    def constant(value: int) -> Any:
        return ir.Constant(_MASK, [value] * LANES)

    def mix(x: Any) -> Any:
        x = builder.xor(x, builder.lshr(x, constant(16)))
        x = builder.mul(x, constant(MIX_A))
        x = builder.xor(x, builder.lshr(x, constant(15)))
        x = builder.mul(x, constant(MIX_B))
        return builder.xor(x, builder.lshr(x, constant(15)))

    x = mix(builder.add(builder.mul(low, constant(PHI)), keys[0]))
    return mix(builder.add(builder.add(x, builder.mul(high, constant(HIGH))), keys[1]))


@intrinsic
def draw(typing: Any, words: Any, starts: Any, key0: Any, key1: Any, high: Any) -> Any:
    """Set words to hash of the indices ``starts[l] + high``; ``starts`` is 16 low halves, then 16 high halves."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        out, starts = (_Array(context, builder, k, a) for k, a in zip(signature.args[:2], arguments[:2], strict=True))
        keys = (_splat(builder, arguments[2]), _splat(builder, arguments[3]))
        first = starts.load(_INDEX(0))
        low = builder.add(first, _splat(builder, builder.trunc(arguments[4], _WORD)))
        carry = builder.zext(builder.icmp_unsigned("<", low, first), _MASK)
        index = low, builder.add(starts.load(_INDEX(LANES)), carry)
        out.store(builder.mul(arguments[4], _INDEX(LANES)), _hash32(builder, keys, *index))
        return context.get_dummy_value()

    return types.void(words, starts, types.uint32, types.uint32, types.int64), generate
