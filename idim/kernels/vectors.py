r"""Vectors of 16 lanes in generated LLVM code: arrays seen as vectors, tiles of a block, signs, random words.

A block x holds position :math:`p = 32\,\mathrm{high} + \mathrm{low}` of 16 lanes in one vector, the vector
after every 32 being padding: strides of a power of two would put a whole tile into one set of a cache.
A *low* tile is the adjacent positions at ``high``, low = 0, 1, …; a *high* tile is the positions
``high + j * leap`` at one ``low``. The sign of lane l at position p is minus where bit ``low`` of
``words[16 * high + l]`` is set.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]

from idim.kernels.bits import HIGH, MIX_A, MIX_B, PHI

LANES = 16
LOW = 32  # positions between paddings, and signs in a word
PITCH = (LOW + 1) * LANES  # elements from one ``high`` to the next

INDEX, WORD = ir.IntType(64), ir.IntType(32)
MASK = ir.VectorType(WORD, LANES)
Vectors = list[Any]


class Array:
    """An array argument of generated code, seen as vectors of 16 lanes; offsets count elements."""

    def __init__(self, context: Any, builder: Any, kind: Any, value: Any) -> None:
        self.builder = builder
        self.data = context.make_array(kind)(context, builder, value).data
        self.bytes = kind.dtype.bitwidth // 8
        self.vector = ir.VectorType(context.get_data_type(kind.dtype), LANES)

    def _pointer(self, at: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(self.data, [at]), self.vector.as_pointer())

    def load(self, at: Any) -> Any:
        """Return the vector at ``at``."""
        return self.builder.load(self._pointer(at), align=self.bytes)

    def store(self, at: Any, vector: Any) -> None:
        """Write a vector to ``at``."""
        self.builder.store(vector, self._pointer(at), align=self.bytes)

    def splat(self, at: Any) -> Any:
        """Return the element at ``at`` in all lanes."""
        return splat(self.builder, self.builder.load(self.builder.gep(self.data, [at])))


class Tile:
    """The places of a tile: offsets into x, into the words, and positions; and the bits of its signs."""

    def __init__(self, builder: Any, size: int, high: Any, leap: Any = None, low: Any = None) -> None:
        self.builder, self.size = builder, size
        steps = [INDEX(j) for j in range(size)]
        if leap is None:
            self.highs, self.lows = [high] * size, steps
        else:
            self.highs, self.lows = [builder.add(high, builder.mul(leap, j)) for j in steps], [low] * size
        self.bits = [builder.trunc(b, WORD) for b in self.lows]
        self.words = [builder.mul(h, INDEX(LANES)) for h in self.highs]
        self.positions = self._at(LOW, 1)
        self.rows = [builder.mul(j, INDEX(LANES)) for j in steps]
        self.places = self._at(PITCH, LANES)

    def _at(self, high: int, low: int) -> Vectors:
        b = self.builder
        pairs = zip(self.highs, self.lows, strict=True)
        return [b.add(b.mul(h, INDEX(high)), b.mul(w, INDEX(low))) for h, w in pairs]

    def load(self, x: Array) -> Vectors:
        """Return the tile of block ``x``."""
        return [x.load(place) for place in self.places]

    def splat(self, z: Array) -> Vectors:
        """Return the numbers of the tile's positions, each in all lanes."""
        return [z.splat(position) for position in self.positions]

    def store(self, x: Array, v: Vectors) -> None:
        """Write ``v`` to the tile of block ``x``."""
        for place, u in zip(self.places, v, strict=True):
            x.store(place, u)

    def add_to(self, x: Array, v: Vectors) -> None:
        """Add ``v`` to the tile of block ``x``."""
        self.store(x, [self.builder.fadd(u, w) for u, w in zip(self.load(x), v, strict=True)])

    def transform(self, v: Vectors) -> Vectors:
        """Return H v across the vectors."""
        h, b = 1, self.builder
        while h < self.size:
            v = [b.fsub(v[i ^ h], v[i]) if i & h else b.fadd(v[i], v[i ^ h]) for i in range(self.size)]
            h *= 2
        return v

    def flip(self, v: Vectors, words: Array) -> Vectors:
        """Return S v, the signs being bits of ``words``."""
        signs = zip(v, self.words, self.bits, strict=True)
        return [flip(self.builder, u, words.load(word), bit) for u, word, bit in signs]


def splat(builder: Any, scalar: Any) -> Any:
    """Return ``scalar`` in all lanes."""
    first = builder.insert_element(ir.Constant(ir.VectorType(scalar.type, LANES), ir.Undefined), scalar, WORD(0))
    return builder.shuffle_vector(first, first, ir.Constant(MASK, [0] * LANES))


def flip(builder: Any, v: Any, words: Any, bit: Any) -> Any:
    """Return ``v`` with the sign of each lane changed where ``bit`` of its word is set."""
    size = 32 if isinstance(v.type.element, ir.FloatType) else 64
    integer = ir.IntType(size)
    vector = ir.VectorType(integer, LANES)
    if size == 64:
        words, bit = builder.zext(words, vector), builder.zext(bit, integer)
    moved = builder.shl(words, splat(builder, builder.sub(integer(size - 1), bit)))
    minus = builder.and_(moved, ir.Constant(vector, [1 << (size - 1)] * LANES))
    return builder.bitcast(builder.xor(builder.bitcast(v, vector), minus), v.type)


def mix_lanes(builder: Any, v: Any, h: int) -> Any:
    """Return v[l ^ h] ± v[l] in every lane l, minus where l & h."""
    other = builder.shuffle_vector(v, v, ir.Constant(MASK, [lane ^ h for lane in range(LANES)]))
    both = builder.fadd(other, v), builder.fsub(other, v)
    return builder.shuffle_vector(
        *both, ir.Constant(MASK, [lane + (LANES if lane & h else 0) for lane in range(LANES)])
    )


def hash32(builder: Any, keys: tuple[Any, Any], low: Any, high: Any) -> Any:
    """Return :func:`idim.kernels.bits.hash32` of vectors of indices."""

    def constant(value: int) -> Any:
        return ir.Constant(MASK, [value] * LANES)

    def mix(x: Any) -> Any:
        x = builder.xor(x, builder.lshr(x, constant(16)))
        x = builder.mul(x, constant(MIX_A))
        x = builder.xor(x, builder.lshr(x, constant(15)))
        x = builder.mul(x, constant(MIX_B))
        return builder.xor(x, builder.lshr(x, constant(15)))

    x = mix(builder.add(builder.mul(low, constant(PHI)), keys[0]))
    return mix(builder.add(builder.add(x, builder.mul(high, constant(HIGH))), keys[1]))
