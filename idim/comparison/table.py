"""Tables of a comparison: score against d and d_int for every task, then what each subspace cost; 80 columns."""

from __future__ import annotations

import html as escapes
import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from idim.comparison.report import CompareReport, Row

WIDTH, NAME, EMPTY = 80, 14, "–"
CELL = 8  # columns of a score and the space before it
UNITS = ("", "k", "M", "G", "T")
COSTS = ("found at a cost of", "runs", "steps", "rows", "file")


def terminal(report: CompareReport) -> str:
    """Return all tables as text."""
    lines = textwrap.wrap(headline(report), WIDTH)
    for task in report.tasks:
        lines += ["", *textwrap.wrap(about(report, task), WIDTH), *aligned(scores(report, task, limit=True))]
    lines += ["", *aligned([COSTS, *map(cost, report.rows)]), ""]
    lines += [line for row in report.rows for line in _note(row.contender.label, row.contender.what)]
    return "\n".join([*lines, *(line for kind, why in report.left_out.items() for line in _note(f"no {kind}", why))])


def html(report: CompareReport) -> str:
    """Return all tables as HTML."""
    parts = [f"<h4>{escapes.escape(headline(report))}</h4>"]
    for task in report.tasks:
        parts += [f"<p>{escapes.escape(about(report, task))}</p>", _html(scores(report, task, limit=False))]
    said = [(*cost(row), row.contender.what) for row in report.rows]
    return "".join([*parts, _html([(*COSTS, "what it is"), *said])])


def headline(report: CompareReport) -> str:
    """Say what was compared."""
    return (
        f"{report.model} in subspaces of D = {report.D:,}, {report.steps:,} steps a run; mean {report.metric} of the "
        "report split at each d; subspaces found from data have the one seed they were found from"
    )


def about(report: CompareReport, task: str) -> str:
    """Say what the scores of a task are to be set against."""
    full, bar, role = report.full[task], report.bar[task], "" if task == report.task else ", an unseen task"
    reference = "" if full["mean"] is None else f"full training {full['mean']:.3f} ({full['n']} runs), "
    return f"{task}{role}: {reference}d_int at a score of {bar['value']:.3f}"


def scores(report: CompareReport, task: str, *, limit: bool) -> list[tuple[str, ...]]:
    """Return a row a subspace: its score at each d, and d_int with its interval; ``limit`` leaves out dims."""
    room = (WIDTH - NAME - 18) // CELL if limit else len(report.dims)
    dims = report.dims if len(report.dims) <= room else (*report.dims[: room - 1], report.dims[-1])
    rows = [("subspace", *(f"d = {d}" for d in dims), "d_int")]
    for row in report.rows:
        found = row.scores(task)
        rows.append((row.contender.label[:NAME], *(_score(found.get(d)) for d in dims), dimension(row, task)))
    return rows


def dimension(row: Row, task: str) -> str:
    """Return d_int and its interval, or above which d it must be."""
    if task not in row.results:
        return EMPTY
    found = row.results[task]
    if found.censored or found.d_int is None:
        return f"> {max(point.d for point in found.curve):,}"
    lo, hi = (f"{end:,.0f}" if math.isfinite(end) else "∞" for end in found.ci95)
    return f"{found.d_int:,} [{lo}, {hi}]"


def cost(row: Row) -> tuple[str, ...]:
    """Return what finding a subspace cost: trainings, their steps, rows whose gradient was taken, bytes to keep."""
    contender, found = row.contender, row.contender.cost
    size = f"{scaled(contender.stored_bytes)}B" if contender.stored_bytes else "0"
    if found is None:
        return contender.label, EMPTY, EMPTY, EMPTY, size
    return contender.label, f"{found.runs:,}", scaled(found.steps), scaled(found.rows), size


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return aligned lines with a rule below the first row."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    return [line.rstrip()[:WIDTH] for line in [lines[0], "  ".join("-" * w for w in widths), *lines[1:]]]


def scaled(value: float) -> str:
    """Return a count in three digits.

    >>> scaled(384), scaled(22_713_216), scaled(1_536)
    ('384', '22.7M', '1.54k')
    """
    size, power = float(value), 0
    while size >= 999.5 and power < len(UNITS) - 1:
        size, power = size / 1000, power + 1
    return f"{size:.3g}{UNITS[power]}"


def _score(value: float | None) -> str:
    return EMPTY if value is None else f"{value:.3f}"


def _note(name: str, said: str) -> list[str]:
    return textwrap.wrap(f"{name}: {said}", WIDTH, subsequent_indent="    ")


def _html(rows: Sequence[Sequence[str]]) -> str:
    head, *body = [[escapes.escape(cell) for cell in row] for row in rows]
    lines = ["".join(f"<td>{cell}</td>" for cell in row) for row in body]
    return f"<table><tr>{''.join(f'<th>{c}</th>' for c in head)}</tr>{''.join(f'<tr>{r}</tr>' for r in lines)}</table>"
