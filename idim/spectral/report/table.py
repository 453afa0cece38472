"""A spectrum report as text cells: for the terminal (at most 80 columns) and for notebooks."""

from __future__ import annotations

import base64
import textwrap
from html import escape
from typing import TYPE_CHECKING

from idim.spectral.report.summary import Group

if TYPE_CHECKING:
    from idim.spectral.report.spectrum_report import SpectrumReport

COLUMNS = 80
INDENT = 12  # of the values in the head
HEADS = ("module", "n", "low", "full", "same", "?", "change", "noise", "rank", "eff.", "90 %", "99 %", "of")
MARKS = ("low-rank", "full-rank", "unchanged", "undetermined")
LEGEND = (
    "n matrices: low-rank, full-rank, unchanged, undetermined; change ‖Δ‖/‖W‖; noise:",
    "rounding / ‖Δ‖; rank above noise and null; effective and energy ranks: medians",
)
SHOWN = 3  # of what was skipped


def text(report: SpectrumReport) -> str:
    """Return the report as a table of at most 80 columns."""
    head = [line for name, value in summary(report) for line in _wrapped(name, value)]
    cells = [HEADS, *rows(report)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(HEADS))]
    lines = [_line(row, widths) for row in cells]
    rule = " ".join("-" * width for width in widths)
    tail = [] if report.comparison is None else ["", *str(report.comparison).splitlines()]
    return "\n".join(line[:COLUMNS] for line in [*head, "", lines[0], rule, *lines[1:], "", *LEGEND, *tail])


def clipped(place: str, width: int) -> str:
    """Return the end of a long path, where its names differ.

    >>> clipped("/data/runs/0042/tuned.safetensors", 24)
    '…/0042/tuned.safetensors'
    """
    return place if len(place) <= width else "…" + place[1 - width :]


def html(report: SpectrumReport, *, picture: bytes) -> str:
    """Return the report as HTML: the head, the picture, and the table behind a fold."""
    head = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in summary(report))
    heads = "".join(f"<th>{h}</th>" for h in HEADS)
    body = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in rows(report))
    image = base64.b64encode(picture).decode()
    compared = "" if report.comparison is None else f"<pre>{escape(str(report.comparison))}</pre>"
    legend = f"<p>{escape(' '.join(LEGEND))}</p>"
    return (
        f"<table>{head}</table>"
        f'<img alt="spectra of the change" style="max-width:860px" src="data:image/png;base64,{image}">'
        f"<details><summary>modules</summary><table><tr>{heads}</tr>{body}</table>{legend}</details>{compared}"
    )


def summary(report: SpectrumReport) -> list[tuple[str, str]]:
    """Return the report's head as (field, value) pairs."""
    whole = report.summary.whole
    pairs = [
        ("base", clipped(report.base, COLUMNS - INDENT)),
        ("tuned", clipped(report.tuned, COLUMNS - INDENT)),
        ("verdict", f"{whole.verdict}: {whole.why}"),
        ("matrices", f"{whole.matrices} of {whole.parameters:,} weights; {len(report.vectors)} vectors"),
        ("change", _change(whole)),
    ]
    if (joint := whole.joint) is not None:
        ranks = f"effective rank {joint.effective_rank:,.1f}, 99 % in {joint.energy_rank_99:,.0f} of {whole.full:,}"
        pairs.append(("as one", f"block-diagonal matrix: {ranks}"))
    if report.skipped:
        pairs.append(("left out", f"{len(report.skipped)}: see skipped in the report"))
        pairs += [("", f"{row.name}: {row.reason}") for row in report.skipped[:SHOWN]]
    return pairs


def rows(report: SpectrumReport) -> list[tuple[str, ...]]:
    """Return one row of cells a kind of module, and the whole."""
    return [_cells(name, group) for name, group in (*report.summary.kinds.items(), ("all", report.summary.whole))]


def _cells(name: str, group: Group) -> tuple[str, ...]:
    counts = [str(group.verdicts.get(verdict, "")) for verdict in MARKS]
    median = group.median
    sizes = ["", "", ""] if median is None else [
        _short(median.effective_rank), f"{median.energy_rank_90:,.0f}", f"{median.energy_rank_99:,.0f}"
    ]  # fmt: skip
    rank = "?" if group.rank is None else f"{group.rank:,}"
    return (name, str(group.matrices), *counts, _small(group.relative), _small(group.noise_share), rank, *sizes,
            f"{group.full:,}")  # fmt: skip


def _change(whole: Group) -> str:
    relative = "" if whole.relative is None else f" = {whole.relative:.3g} of the base"
    noise = "" if whole.noise_share is None else f"; rounding explains {whole.noise_share:.2g} of it"
    return f"‖Δ‖ = {whole.norm:.4g}{relative}{noise}"


def _small(value: float | None) -> str:
    return "" if value is None else f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e+")


def _short(value: float) -> str:
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _wrapped(name: str, value: str) -> list[str]:
    """Return a field of the head on as many lines as it needs."""
    lines = textwrap.wrap(value, COLUMNS - INDENT) or [""]
    return [f"{word:>{INDENT - 2}}  {line}" for word, line in zip([name, *[""] * len(lines)], lines, strict=False)]


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    return " ".join(
        cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
    )
