"""From a finished run to a certificate: round its numbers, count bits and wrong answers, and bound the risk.

Candidates are the numbers of levels asked for, each rounded and, if asked, trained on at its levels. They are judged
by the bound that :data:`SCREENED` of the training rows promise; the best is then evaluated on all of them, and only
that counts. Any choice is allowed here, also by the training rows: a bound covers every message at once
(:mod:`idim.theory.bounds`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from idim.runs.errors import TrainingFailed
from idim.runs.rows import Rows, rows_of, training_rows
from idim.runs.train import alone, score
from idim.theory.bounds import Bounds, bounds, rate
from idim.theory.codes import LEVEL_BITS, Bits, adaptive_bits, elias_bits, seed_bits
from idim.theory.finished import Finished
from idim.theory.quantise import Quantised, quantise
from idim.theory.rounded import Part, parts_of, tuned, write

SCREENED = 4096  # rows
PREPARED = {"digits": 64, "idx": 64}
"""Bits of what the preparation of a task took from its training rows: two numbers in float32 that scale the inputs."""


@dataclass(frozen=True, kw_only=True)
class Coding:
    """How a run is written down.

    Args:
        levels: numbers of levels to try.
        tune: steps of training at the levels, for each; 0 for none.
        lr: of z in these; None: the run's own.
        delta: probability that a bound fails.
        extra: bits beyond those of z, the codebook, d, seeds and levels: for what else was chosen with the rows in
            sight.
    """

    levels: tuple[int, ...] = (3, 5, 7, 9, 15)
    tune: int = 200
    lr: float | None = None
    delta: float = 0.05
    extra: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Shares of wrong answers on the training rows and on the report split."""

    train: float
    test: float


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What a run proves about rows that it has not seen.

    Attributes:
        task, model, projection, D, d, seed, lr: the run.
        m: number of training rows; ``tests``: of report rows.
        numbers: how many were trained and written down: d, and those of a head that is trained directly.
        levels: of each codebook. ``tuned``: whether training went on at the levels.
        bits: length of the message.
        before: errors of the network as trained; ``errors``: of the one that is written down, which the bounds are
            for.
        bounds: on its risk, the probability of a wrong answer.
        guess: risk of guessing among the classes: from here on a bound says nothing.
        rate: the square root of d / m (:func:`idim.theory.bounds.rate`).
    """

    task: str
    model: str
    projection: str
    D: int
    d: int
    seed: int
    lr: float
    m: int
    tests: int
    numbers: int
    levels: tuple[int, ...]
    tuned: bool
    bits: Bits
    before: Errors
    errors: Errors
    bounds: Bounds
    guess: float
    rate: float

    @property
    def vacuous(self) -> bool:
        """Whether guessing is as good as what is proved."""
        return self.bounds.kl >= self.guess


def certify(run: Finished, coding: Coding) -> tuple[Certificate, list[Quantised]]:
    """Return the certificate of a run and the codes it is for; the subspace is left at their values."""
    spec, rows, report = run.spec, training_rows(run.spec, run.task), rows_of(run.spec, run.task.report)
    with alone(spec.seed):
        before = Errors(train=wrong(run, rows), test=wrong(run, report))
        codes, was_tuned = _rounded(run, rows, coding)
        errors = Errors(train=wrong(run, rows), test=wrong(run, report))
    bits = message(run, codes, coding)
    return Certificate(
        task=spec.task,
        model=spec.model,
        projection=spec.projection or "",
        D=run.space.D,
        d=run.space.d,
        seed=spec.seed,
        lr=spec.lr,
        m=len(rows),
        tests=len(report),
        numbers=sum(len(code.codes) for code in codes),
        levels=tuple(len(code.levels) for code in codes),
        tuned=was_tuned,
        bits=bits,
        before=before,
        errors=errors,
        bounds=bounds(errors.train, m=len(rows), bits=bits.total, delta=coding.delta),
        guess=1 - 1 / run.task.outputs,
        rate=rate(run.space.d, len(rows)),
    ), codes  # fmt: skip


def _rounded(run: Finished, rows: Rows, coding: Coding) -> tuple[list[Quantised], bool]:
    """Return the most promising codes, and whether training went on for them; the subspace takes their values."""
    parts, few = parts_of(run.space, run.start), some(rows, SCREENED)
    found = [
        (_promise(run, parts, codes, few, len(rows), coding), codes, by)
        for codes, by in _codes(run, parts, rows, coding)
    ]
    _, codes, was_tuned = min(found, key=lambda item: item[0])
    write(run.space, parts, codes)
    return codes, was_tuned


def message(run: Finished, codes: Sequence[Quantised], coding: Coding) -> Bits:
    """Return the bits of everything that a decoder needs, which has the network's code and theta0 by its seed."""
    sizes = [len(code.levels) for code in codes]
    settings = elias_bits(run.space.d) + seed_bits(run.seeds) + sum(map(elias_bits, sizes))
    return Bits(
        codes=math.fsum(adaptive_bits(code.counts) for code in codes),
        codebook=float(LEVEL_BITS * sum(sizes)),
        settings=settings + PREPARED.get(run.spec.task.partition(":")[0], 0) + coding.extra,
    )


def wrong(run: Finished, rows: Rows) -> float:
    """Return the share of rows whose largest output is not their class, at what the subspace is now."""
    return 1.0 - score(run.spec, dataclasses.replace(run.task, metric="accuracy"), run.space, rows)


def some(rows: Rows, most: int) -> Rows:
    """Return so many rows at most, evenly spaced."""
    step = -(-len(rows) // most)
    fields = {field.name: getattr(rows, field.name) for field in dataclasses.fields(rows)}
    return Rows(**{name: value[::step] if isinstance(value, Tensor) else value for name, value in fields.items()})


def _codes(run: Finished, parts: Sequence[Part], rows: Rows, coding: Coding) -> Iterator[tuple[list[Quantised], bool]]:
    """Yield the candidates, each with whether training went on."""
    for levels in coding.levels:
        yield [quantise(part.change, levels) for part in parts], False
        if coding.tune:
            lr = run.spec.lr if coding.lr is None else coding.lr
            try:
                yield (
                    tuned(run.space, parts, levels, spec=run.spec, task=run.task, rows=rows, steps=coding.tune, lr=lr),
                    True,
                )
            except TrainingFailed:  # the candidate without it stands
                continue


def _promise(
    run: Finished, parts: Sequence[Part], codes: Sequence[Quantised], few: Rows, m: int, coding: Coding
) -> float:
    """Return the bound that a candidate would have if it erred on all rows as often as on a few."""
    write(run.space, parts, codes)
    try:
        share = wrong(run, few)
    except TrainingFailed:
        return 1.0
    return bounds(share, m=m, bits=message(run, codes, coding).total, delta=coding.delta).kl
