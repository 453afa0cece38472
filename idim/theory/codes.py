r"""What it takes to write down a network that was trained in a subspace: the bits of a prefix-free code.

A trained vector (the change of z, and of a head that is trained directly) is rounded to a *codebook* of L levels, so
that it is n numbers in 0 … L - 1. The whole message is, in this order,

1. what the decoder needs before it can begin: d, the seeds of initialisation and of P, and each L, as whole numbers
in Elias'
   delta code, :math:`\lfloor \log_2 k\rfloor + 2\lfloor\log_2(\lfloor\log_2 k\rfloor + 1)\rfloor + 1` bits for k = 1,
   2, … (any number may come, so no range has to be declared before the search);
2. the levels, 16 bits each (float16);
3. the codes, in an arithmetic code with the adaptive probabilities of Krichevsky and Trofimov: after i codes, of which
   :math:`n_l` were l, the next is l with probability :math:`(n_l + 1/2) / (i + L/2)`. For counts :math:`n_1, …, n_L`
   these multiply to

.. math::
    Q = \frac{\Gamma(L/2)}{\Gamma(n + L/2)} \prod_{l} \frac{\Gamma(n_l + 1/2)}{\Gamma(1/2)},

   and :math:`-\log_2 Q` is the length. No counts are sent: the decoder has counted too. It is within about
   :math:`\frac{L-1}{2}\log_2 n` bits of n times the entropy of the counts.

A weight :math:`2^{-\text{bits}}` sums to at most 1 over all messages, so bits need not be whole.

Sources: P. Elias, "Universal codeword sets and representations of the integers", 1975; R. Krichevsky, V. Trofimov,
"The performance of universal encoding", 1981.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LEVEL_BITS = 16


@dataclass(frozen=True, kw_only=True)
class Bits:
    """Length of a message, in bits.

    Attributes:
        codes: which level each number has.
        codebook: the levels.
        settings: d, seeds, numbers of levels, and whatever else was chosen with the data in sight.
    """

    codes: float
    codebook: float
    settings: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.codes + self.codebook + self.settings


def adaptive_bits(counts: Sequence[int]) -> float:
    """Return the bits of a sequence with so many of each level, in the adaptive code (see the module).

    >>> round(adaptive_bits([1, 0]), 1), round(adaptive_bits([50, 50]), 1)
    (1.0, 103.7)
    """
    n, levels = sum(counts), len(counts)
    gains = math.fsum(math.lgamma(count + 0.5) - math.lgamma(0.5) for count in counts)
    return (math.lgamma(n + levels / 2) - math.lgamma(levels / 2) - gains) / math.log(2)


def elias_bits(number: int) -> int:
    """Return the bits of a whole number from 1 in Elias' delta code.

    >>> elias_bits(1), elias_bits(2), elias_bits(4), elias_bits(1000)
    (1, 4, 5, 16)
    """
    if number < 1:
        raise ValueError(f"Elias' code is of numbers from 1; received {number}")
    size = number.bit_length() - 1
    return size + 2 * ((size + 1).bit_length() - 1) + 1


def seed_bits(seeds: Iterable[int]) -> int:
    """Return the bits of seeds, any whole numbers: 0, 1, -1, 2, … in this order."""
    return sum(elias_bits(2 * seed if seed > 0 else 1 - 2 * seed) for seed in seeds)
