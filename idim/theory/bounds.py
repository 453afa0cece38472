r"""Bounds on the risk of a network that can be written in few bits.

Let :math:`\hat r` be the mean over m independent rows of a loss in [0, 1], r its expectation (the *risk*), and let
every network h of a countable class have a weight :math:`\pi(h) > 0`, fixed before the rows were seen, with
:math:`\sum_h \pi(h) \le 1`. A prefix-free code of B(h) bits gives :math:`\pi(h) = 2^{-B(h)}` (Kraft). With
probability at least :math:`1 - \delta` over the rows, *all* h at once satisfy each of

.. math::
    \mathrm{kl}(\hat r \,\|\, r) &\le \frac{B \ln 2 + \ln(1/\delta)}{m}
        && \text{or } r \le \hat r \qquad \text{(kl)} \\
    r &\le \hat r + \sqrt{\frac{B \ln 2 + \ln(1/\delta)}{2m}} && \text{(Hoeffding)} \\
    \mathrm{kl}(\hat r \,\|\, r) &\le \frac{B \ln 2 + \ln(2\sqrt{m}/\delta)}{m} && \text{(PAC-Bayes)}

with :math:`\mathrm{kl}(q \| p) = q \ln\frac{q}{p} + (1-q) \ln\frac{1-q}{1-p}`. The first two are Chernoff's and
Hoeffding's bounds for one h, at :math:`\delta\,\pi(h)`, and a union over h. The third is Maurer's theorem for any
posterior, at the point mass on h, whose divergence from :math:`\pi` is :math:`B \ln 2`; for a point mass the first is
smaller. By Pinsker's inequality the first is never larger than the second.

Because all h are covered, it does not matter how h was found, by what search or with what learning rate: only what is
needed to *write h down* costs bits.

Sources: A. Blumer, A. Ehrenfeucht, D. Haussler, M. Warmuth, "Occam's Razor", 1987; J. Langford, "Tutorial on Practical
Prediction Theory for Classification", 2005; A. Maurer, "A Note on the PAC Bayesian Theorem", 2004, arXiv:cs/0411099;
S. Lotfi et al., "PAC-Bayes Compression Bounds So Tight That They Can Explain Generalization", 2022, arXiv:2211.13609.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from idim.errors import RequestError

HALVINGS = 100


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Upper bounds on the risk, none above 1; the first is the smallest.

    Attributes:
        kl: Chernoff's form.
        pac_bayes: Maurer's form at a point mass.
        hoeffding: the empirical risk and a square root.
    """

    kl: float
    pac_bayes: float
    hoeffding: float


def bounds(empirical: float, *, m: int, bits: float, delta: float) -> Bounds:
    """Return what holds with probability ``1 - delta`` for all hypotheses at once (see the module).

    Args:
        empirical: mean loss over the rows, in [0, 1].
        m: number of rows.
        bits: length of what writes the hypothesis down.
        delta: probability that a bound fails, in (0, 1).

    Raises:
        RequestError: for an argument out of range.
    """
    if not (0 <= empirical <= 1 and m >= 1 and 0 <= bits < math.inf):
        raise RequestError(
            "a bound needs a mean loss in [0, 1], at least one row and a finite number of bits, at least 0; "
            f"received {empirical:g}, {m} and {bits:g}"
        )
    check_delta(delta)
    price = bits * math.log(2) + math.log(1 / delta)
    return Bounds(
        kl=kl_inverse(empirical, price / m),
        pac_bayes=kl_inverse(empirical, (price + math.log(2 * math.sqrt(m))) / m),
        hoeffding=min(1.0, empirical + math.sqrt(price / (2 * m))),
    )


def check_delta(delta: float) -> None:
    """Refuse a probability that is none.

    Raises:
        RequestError: outside (0, 1).
    """
    if not 0 < delta < 1:
        raise RequestError(f"delta, the probability that a bound fails, must be in (0, 1); received {delta:g}")


def kl(q: float, p: float) -> float:
    """Return the divergence of a coin of bias q from one of bias p, in nats; infinite where p rules out what q has."""
    return _part(q, p) + _part(1 - q, 1 - p)


def _part(a: float, b: float) -> float:
    if not a:
        return 0.0
    return a * math.log(a / b) if b else math.inf


def kl_inverse(q: float, budget: float) -> float:
    """Return the largest p in [q, 1] with kl(q, p) at most ``budget``, rounded up to the next float or so.

    >>> round(kl_inverse(0.0, 0.1), 6)  # 1 - exp(-0.1)
    0.095163
    """
    low, high = q, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if kl(q, middle) <= budget:
            low = middle
        else:
            high = middle
    return high


def rate(d: int, m: int) -> float:
    r"""Return :math:`\sqrt{d/m}`, the rate at which Aghajanyan et al. say that the gap falls.

    Their theorem is :math:`O(\sqrt{d/m})` for a network that a subspace of d dimensions compresses, after Arora et
    al. 2018: it leaves out the constant, the bits that each coordinate takes, the margin that it is stated at, and
    the probability with which it holds. It is no bound that could be checked; :func:`bounds` is.

    Source: A. Aghajanyan, L. Zettlemoyer, S. Gupta, 2020, arXiv:2012.13255, section 5.
    """
    return math.sqrt(d / m)
