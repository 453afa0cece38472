"""The table of methods as text: for a terminal, as Markdown, as HTML, and as records for a data frame."""

from __future__ import annotations

import html as escapes
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from idim.delta_tuning.row import MethodRow

if TYPE_CHECKING:
    from idim.delta_tuning.report import MethodsReport

WIDTH = 80
NAME = 17  # columns of a method's name in a terminal
UNITS = ("", "k", "M", "G", "T")
TERMINAL = ("method", "trained", "changed", "rank", "stored", "score", "sd", "to 90", "ms")
MARKDOWN = (
    "method", "group", "trained", "changed", "rank", "stored", "through", "merges", "rate", "score", "steps to 90 %",
    "peak MB", "forward, backward, step ms", "inference", "remark",
)  # fmt: skip
EMPTY = "–"


def record(row: MethodRow) -> dict[str, Any]:
    """Return a row's numbers by name."""
    cost = row.cost
    return {
        "method": row.method,
        "group": row.group,
        "trained": row.own,
        "head": row.head,
        "changed": row.changed,
        "added": row.added,
        "rank_median": None if row.ranks is None else row.ranks["median"],
        "rank_max": None if row.ranks is None else row.ranks["max"],
        "stored_bytes": row.stored_bytes,
        "through": row.through,
        "merges": row.merges,
        "lr": row.lr,
        "mean": row.mean,
        "sd": row.sd,
        "steps_to_90": row.steps_to_90,
        "seconds": row.seconds,
        "peak_mb": None if cost is None else cost.peak_mb,
        "forward_ms": None if cost is None else cost.forward_ms,
        "backward_ms": None if cost is None else cost.backward_ms,
        "optimizer_ms": None if cost is None else cost.optimizer_ms,
        "inference_added": None if cost is None else cost.added,
    }


def terminal(report: MethodsReport) -> str:
    """Return the table in 80 columns, and the remarks below it."""
    rows = [row for row in report.rows if not row.why]
    shown = len(TERMINAL) - all(row.cost is None for row in rows)
    lines = [*textwrap.wrap(f"{report.title}: {report.definition}", WIDTH), ""]
    lines += [line[:WIDTH] for line in columns([TERMINAL[:shown], *(_short(row)[:shown] for row in rows)])]
    notes = [(row.method, said) for row in report.rows if (said := report.remark(row))]
    lines += ["", *(line for name, said in notes for line in _note(name, said))]
    return "\n".join(lines)


def _short(row: MethodRow) -> tuple[str, ...]:
    step = None if row.cost is None else row.cost.step_ms
    return (
        row.method if len(row.method) <= NAME else f"{row.method[: NAME - 1]}…",
        scaled(row.own),
        changed(row),
        rank(row),
        scaled(row.stored_bytes, "B"),
        number(row.mean, ".3f"),
        number(row.sd, ".3f"),
        number(row.steps_to_90, ".0f"),
        number(step, ".0f"),
    )


def _note(name: str, said: str) -> list[str]:
    return textwrap.wrap(f"{name}: {said}", WIDTH, subsequent_indent="    ")


def markdown(report: MethodsReport) -> str:
    """Return the whole table, what it means, and where its times were taken."""
    lines = [f"# {report.title}", "", report.definition, "", f"Learning rates: {report.rates}", ""]
    lines += piped([MARKDOWN, *(long(row, report.remark(row)) for row in report.rows)])
    if report.environment is not None:
        lines += ["", f"Memory and times: {_where(report)}"]
    return "\n".join(lines)


def _where(report: MethodsReport) -> str:
    costs = [row.cost for row in report.rows if row.cost is not None]
    sizes = sorted({f"batch {c.batch}" + (f" of {c.length} tokens" if c.length else "") for c in costs})
    place = ", ".join(f"{name} {value}" for name, value in (report.environment or {}).items())
    return f"{'; '.join(sizes)}; peak beyond the libraries; medians of one thread's processor time; {place}."


def long(row: MethodRow, said: str) -> tuple[str, ...]:
    """Return a row's cells for Markdown and HTML."""
    if row.why:
        return (row.method, row.group, *[EMPTY] * (len(MARKDOWN) - 3), said)
    score = number(row.mean, ".3f") + (f" ± {row.sd:.3f}" if row.sd is not None else "")
    counts = (scaled(row.own), changed(row), rank(row), scaled(row.stored_bytes, "B"))
    answers = (number(row.lr, ".2g"), score, number(row.steps_to_90, ".0f"))
    return (row.method, row.group, *counts, yes(row.through), yes(row.merges), *answers, *cost_cells(row), said)


def cost_cells(row: MethodRow) -> tuple[str, str, str]:
    """Return memory, the parts of a step, and what is added to inference."""
    cost = row.cost
    if cost is None or cost.failed:
        return (EMPTY, EMPTY if cost is None else f"failed: {cost.failed}", EMPTY)
    parts = ", ".join(number(ms, ".0f") for ms in (cost.forward_ms, cost.backward_ms, cost.optimizer_ms))
    added = EMPTY if cost.added is None else f"{100 * cost.added:+.0f} %"
    return number(cost.peak_mb, ".0f"), parts, added


def html(report: MethodsReport, source: str) -> str:
    """Return the table with a picture above it."""
    cells = [long(row, report.remark(row)) for row in report.rows]
    head = "".join(f"<th>{heading}</th>" for heading in MARKDOWN)
    body = "".join("<tr>" + "".join(f"<td>{escapes.escape(c)}</td>" for c in row) + "</tr>" for row in cells)
    image = f'<img alt="score against numbers trained" style="max-width:800px" src="{source}">'
    title, words = escapes.escape(report.title), escapes.escape(report.definition)
    return f"<h4>{title}</h4><p>{words}</p>{image}<table><tr>{head}</tr>{body}</table>"


# -- cells ----------------------------------------------------------------------------------------


def scaled(value: float | None, unit: str = "") -> str:
    """Return a count in three digits.

    >>> scaled(384), scaled(22_713_216), scaled(1536, "B")
    ('384', '22.7M', '1.54kB')
    """
    if value is None:
        return EMPTY
    size, power = float(value), 0
    while size >= 999.5 and power < len(UNITS) - 1:
        size, power = size / 1000, power + 1
    return f"{size:.3g}{UNITS[power]}{unit}"


def changed(row: MethodRow) -> str:
    """Return how many numbers of the network changed, and how many were added to it."""
    if not row.added:
        return scaled(row.changed)
    return f"+{scaled(row.added)}" if not row.changed else f"{scaled(row.changed)}+{scaled(row.added)}"


def rank(row: MethodRow) -> str:
    """Return the median rank of the changes, and the largest where it differs."""
    if row.ranks is None or row.ranks["median"] is None:
        return EMPTY
    median, most = row.ranks["median"], row.ranks["max"]
    return f"{median:g}" if median == most else f"{median:g}≤{most:g}"


def number(value: float | None, form: str) -> str:
    """Return a number in a format, or a dash."""
    return EMPTY if value is None else format(value, form)


def yes(value: bool) -> str:
    """Return yes or no."""
    return "yes" if value else "no"


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return aligned lines: the first column to the left, a rule below the first row."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(_aligned(row, widths)).rstrip() for row in rows]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def _aligned(row: Sequence[str], widths: Sequence[int]) -> Iterable[str]:
    return (cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))


def piped(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return [lines[0], f"|{' --- |' * len(rows[0])}", *lines[1:]]
