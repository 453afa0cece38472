"""Judge the tensors of a pair of models, as many at once as there are threads, keeping each verdict as it is made."""

from __future__ import annotations

import difflib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from threading import Lock
from typing import Any

from idim.errors import RequestError
from idim.spectral.judgement.journal import Journal
from idim.spectral.judgement.judge import MatrixReport, VectorReport, judge
from idim.spectral.judgement.pool import in_order
from idim.spectral.pairing.pairs import Pairs, Skipped

SPECTRUM_VERSION = 1
"""Part of what a finished matrix is kept under. Raise it when the same pair would give other numbers."""

Report = MatrixReport | VectorReport
Finished = tuple[Report, float]
Seen = Callable[[str], None]
KINDS: dict[str, type[MatrixReport] | type[VectorReport]] = {k.__name__: k for k in (MatrixReport, VectorReport)}


@dataclass(frozen=True, kw_only=True)
class Judging:
    """How tensors are judged: everything but the pair that the numbers depend on.

    Attributes:
        include: name patterns of the tensors to look at.
        seed: of the draws of the null and of randomized decompositions.
        false_positive_rate: chance for each matrix that noise alone is called a direction.
        roundings: how many times the stored numbers were rounded while training.
    """

    include: tuple[str, ...] = ("*",)
    seed: int = 0
    false_positive_rate: float = 0.01
    roundings: int = 1

    def options(self) -> dict[str, object]:
        """Return what every number depends on; one rounding is left out, as it was before it could be stated."""
        stated: dict[str, object] = {} if self.roundings == 1 else {"roundings": self.roundings}
        return {"seed": self.seed, "false_positive_rate": self.false_positive_rate, **stated}


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The tensors of one pair, judged; ``seconds`` is the time each took when it was judged, summed."""

    matrices: tuple[MatrixReport, ...]
    vectors: tuple[VectorReport, ...]
    skipped: tuple[Skipped, ...]
    seconds: float


def judge_pairs(pairs: Pairs, judging: Judging, *, out: Path | None, seen: Seen = lambda name: None) -> Judged:
    """Judge every tensor of a pair of models that a pattern names.

    Args:
        pairs: the models.
        judging: how.
        out: folder that keeps finished tensors, so that a killed run goes on from them; None keeps nothing.
        seen: told the name of each tensor when it is finished.

    Raises:
        RequestError: when a pattern matches no name, or no tensor can be judged.
    """
    names = chosen(pairs.names, judging.include)
    finished: list[Finished] = []
    skipped: list[Skipped] = []
    with nullcontext() if out is None else Journal(out, question(pairs, judging)) as journal:
        judge_one = _JudgeOne(pairs, judging, journal)
        for name, outcome in zip(names, in_order(judge_one, names), strict=True):
            if isinstance(outcome, Skipped):
                skipped.append(outcome)
            else:
                finished.append(outcome)
            seen(name)
    if not finished:
        raise RequestError(
            f"one tensor at least must be readable; received {len(names)}, the first: {skipped[0].reason}"
        )
    reports = [report for report, _ in finished]
    return Judged(
        matrices=tuple(r for r in reports if isinstance(r, MatrixReport)),
        vectors=tuple(r for r in reports if isinstance(r, VectorReport)),
        skipped=(*pairs.skipped, *skipped),
        seconds=math.fsum(seconds for _, seconds in finished),
    )


def question(pairs: Pairs, judging: Judging) -> dict[str, object]:
    """Return what the numbers of a tensor depend on, beside its name."""
    return {"version": SPECTRUM_VERSION, "pair": pairs.fingerprint, **judging.options()}


def chosen(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Return the names that a pattern matches, in their order; every pattern must match one.

    Raises:
        RequestError: when there are no names, or a pattern matches none.
    """
    if not names:
        raise RequestError("the models must share at least one float tensor; received none that can be compared")
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            near = ", ".join(_near(pattern, names))
            raise RequestError(f"include pattern {pattern!r} matches none of {len(names)} tensors; near names: {near}")
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _near(pattern: str, names: Sequence[str]) -> list[str]:
    """Return three names at most with a part like one of the pattern's, else the first three."""
    parts = {part for name in names for part in name.split(".")}
    alike = [near for part in pattern.split(".") for near in difflib.get_close_matches(part.strip("*"), parts, n=1)]
    return ([name for name in names if set(name.split(".")) & set(alike)] or list(names))[:3]


class _JudgeOne:
    """Judges one tensor at a time by name, from several threads; what is finished is kept before it is returned."""

    def __init__(self, pairs: Pairs, judging: Judging, journal: Journal | None) -> None:
        self.pairs, self.judging, self.journal = pairs, judging, journal
        self.reading = Lock()  # other libraries read adapters, and need not be ready for threads

    def __call__(self, name: str) -> Finished | Skipped:
        """Return the report of a tensor and the seconds it took, from the journal where it is there."""
        if self.journal is not None and (kept := _restored(self.journal.records.get(name))) is not None:
            return kept
        try:
            report, seconds = self._judged(name)
        except RequestError as error:
            return Skipped(name=name, reason=str(error))
        if self.journal is not None:
            self.journal.keep(name, {"kind": type(report).__name__, "seconds": seconds, "report": report.to_json()})
        return report, seconds

    def _judged(self, name: str) -> Finished:
        with self.reading:
            started = time.perf_counter()
            delta = self.pairs.load(name)
            reading = time.perf_counter() - started
        started = time.perf_counter()
        asked = self.judging
        report = judge(delta, seed=asked.seed, false_positive_rate=asked.false_positive_rate, roundings=asked.roundings)
        return report, reading + time.perf_counter() - started


def _restored(record: Mapping[str, Any] | None) -> Finished | None:
    """Return what a record holds; None for one that is missing, or that an idim with other fields has written."""
    try:
        return None if record is None else (KINDS[record["kind"]].from_json(record["report"]), float(record["seconds"]))
    except (KeyError, TypeError, ValueError):
        return None
