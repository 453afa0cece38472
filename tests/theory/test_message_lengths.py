"""Bits: against coders that write a message and read it back, and Kraft's inequality."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from idim.theory.codes import adaptive_bits, elias_bits, seed_bits

# -- a reference: arithmetic coding with exact fractions ------------------------------------------


def model(counts: list[int]) -> list[Fraction]:
    """Return the probabilities of the next symbol: each count and a half."""
    total = Fraction(2 * sum(counts) + len(counts), 2)
    return [Fraction(2 * count + 1, 2) / total for count in counts]


def encode(symbols: list[int], levels: int) -> str:
    """Return the bits of an adaptive arithmetic code: the shortest dyadic interval inside that of the symbols."""
    low, width, counts = Fraction(0), Fraction(1), [0] * levels
    for symbol in symbols:
        shares = model(counts)
        low, width = low + width * sum(shares[:symbol]), width * shares[symbol]
        counts[symbol] += 1
    size = 0
    while True:
        number = math.ceil(low * 2**size)
        if Fraction(number + 1, 2**size) <= low + width:
            return format(number, f"0{size}b") if size else ""
        size += 1


def decode(bits: str, length: int, levels: int) -> list[int]:
    """Return the symbols of a code; the decoder knows their number and that of the levels, and nothing else."""
    value = Fraction(int(bits, 2), 2 ** len(bits)) if bits else Fraction(0)
    low, width, counts, symbols = Fraction(0), Fraction(1), [0] * levels, []
    for _ in range(length):
        shares, below = model(counts), Fraction(0)
        symbol = 0
        while value >= low + width * (below + shares[symbol]):
            below += shares[symbol]
            symbol += 1
        low, width = low + width * below, width * shares[symbol]
        counts[symbol] += 1
        symbols.append(symbol)
    return symbols


@pytest.mark.parametrize(("levels", "length"), [(1, 9), (2, 60), (3, 40), (7, 50), (5, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_a_real_coder_needs_as_many_bits(levels: int, length: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    symbols = draw.choice(levels, size=length, p=draw.dirichlet(np.ones(levels))).tolist()
    bits = encode(symbols, levels)
    assert decode(bits, length, levels) == symbols
    expected = adaptive_bits(np.bincount(symbols, minlength=levels).tolist())
    assert expected - 1e-9 <= len(bits) <= expected + 2


@pytest.mark.parametrize(("levels", "length"), [(2, 8), (3, 5), (4, 4)])
def test_the_weights_of_all_sequences_add_up_to_one(levels: int, length: int) -> None:
    sequences = itertools.product(range(levels), repeat=length)
    lengths = [adaptive_bits([sequence.count(level) for level in range(levels)]) for sequence in sequences]
    assert math.fsum(2.0**-bits for bits in lengths) == pytest.approx(1, abs=1e-12)


@given(st.lists(st.integers(0, 3000), min_size=2, max_size=12).filter(lambda counts: sum(counts) > 0))
def test_it_is_the_entropy_and_half_a_logarithm_a_level(counts: list[int]) -> None:
    n, levels = sum(counts), len(counts)
    entropy = math.fsum(-c * math.log2(c / n) for c in counts if c)
    over = adaptive_bits(counts) - entropy
    assert -1e-6 <= over <= (levels - 1) / 2 * math.log2(n) + levels


# -- whole numbers --------------------------------------------------------------------------------


def elias(number: int) -> str:
    """Return Elias' delta code: the size of the number's size, its size, and all but its first one."""
    binary = format(number, "b")
    size = format(len(binary), "b")
    return "0" * (len(size) - 1) + size + binary[1:]


@given(st.integers(1, 2**80))
def test_a_number_has_the_length_of_its_code(number: int) -> None:
    assert elias_bits(number) == len(elias(number))


def test_no_code_begins_another() -> None:
    words = sorted(elias(number) for number in range(1, 300))
    assert not any(after.startswith(word) for word, after in itertools.pairwise(words))
    assert sum(Fraction(1, 2 ** elias_bits(number)) for number in range(1, 5000)) < 1


def test_only_numbers_from_one_have_a_code() -> None:
    with pytest.raises(ValueError, match="received 0"):
        elias_bits(0)


def test_every_seed_has_a_code_of_its_own() -> None:
    seeds = sorted(range(-500, 501), key=lambda seed: (abs(seed), -seed))  # 0, 1, -1, 2, -2, ...
    assert [seed_bits([seed]) for seed in seeds] == [elias_bits(place) for place in range(1, 1002)]
    assert seed_bits([0, 3]) == seed_bits([0]) + seed_bits([3])
