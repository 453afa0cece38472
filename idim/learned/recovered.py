r"""How much of a tuning is recovered in fewer numbers, over tasks.

For the scores :math:`p_t` of the start, :math:`s_t` of a tuning and :math:`r_t` in fewer numbers on task t,

- the *recovered fraction* is the mean of :math:`r_t / s_t`, as in Qin et al. 2021 (arXiv:2110.07867, :math:`E_{IST} /
  E_{PT}`): that of the start is not zero, and may be nearly one;
- the *recovered gain* is :math:`\sum_t (r_t - p_t) / \sum_t (s_t - p_t)`: zero for the start, one for the tuning.

The start is a linear probe, or the best constant answer where the head is fresh (:mod:`idim.learned.tunings`).

Intervals are those of a bootstrap over the tasks, whole ones with all their scores: they say what other tasks of this
kind would give, not other seeds. Tasks whose tuning scores below LEAST, such as a correlation near 0, have no fraction
and are left out of it; those that tuning improves by less than LEAST_GAIN have nothing to recover and are left out of
the gain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from idim.errors import RequestError

DRAWS = 2000
LEAST, LEAST_GAIN = 0.1, 0.02
Scores = Mapping[str, float]
Floats = NDArray[np.float64]
Statistic = Callable[[Floats], float]


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share with the 95 % interval of its bootstrap over tasks; None where there is none."""

    value: float | None
    low: float | None
    high: float | None
    tasks: int

    def __str__(self) -> str:
        if self.value is None:
            return "none"
        ends = "" if self.low is None or self.high is None else f" [{self.low:.2f}, {self.high:.2f}]"
        return f"{self.value:.2f}{ends}"


def fraction(inside: Scores, tuned: Scores, *, seed: int = 0) -> Share:
    """Return the recovered fraction over the tasks of ``inside``.

    Raises:
        RequestError: for a task without a score.
    """
    rows = _rows(inside, tuned)
    return _share(rows[rows[:, 1] >= LEAST], lambda r: float((r[:, 0] / r[:, 1]).mean()), seed)


def gain(inside: Scores, tuned: Scores, start: Scores, *, seed: int = 0) -> Share:
    """Return the recovered gain over the start.

    Raises:
        RequestError: for a task without a score.
    """
    rows = _rows(inside, tuned, start)
    improved = rows[rows[:, 1] - rows[:, 2] >= LEAST_GAIN]
    return _share(improved, lambda r: float((r[:, 0] - r[:, 2]).sum() / (r[:, 1] - r[:, 2]).sum()), seed)


def _rows(*scores: Scores) -> Floats:
    first, *others = scores
    if lacking := [task for task in first for other in others if task not in other]:
        raise RequestError(f"every task must have all scores to be compared; received none of {lacking[0]!r}")
    return np.array([[each[task] for each in scores] for task in first]).reshape(-1, len(scores))


def _share(rows: Floats, statistic: Statistic, seed: int) -> Share:
    count = len(rows)
    if not count:
        return Share(value=None, low=None, high=None, tasks=count)
    draw = np.random.default_rng(seed)
    found = np.array([statistic(rows[draw.integers(count, size=count)]) for _ in range(DRAWS)])
    low, high = (float(np.quantile(found, q)) for q in (0.025, 0.975))
    return Share(value=statistic(rows), low=low, high=high, tasks=count)
