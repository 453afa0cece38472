"""Docstrings are written in the roles of reStructuredText; the site reads Markdown."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|mod|func|meth|data|attr|exc|obj):`(~?)([^`]+)`")
INLINE = re.compile(r":math:`([^`]+)`")
BLOCK = re.compile(r"^( *)\.\. math::(.*)\n((?:(?:\1 +.*)?\n)*)", re.MULTILINE)
TABLE = re.compile(r"^={3,} +={3,}.*\n((?:.+\n)+?)={3,} +={3,}.*$", re.MULTILINE)


class Markdown(griffe.Extension):
    """Turns roles, mathematics and simple tables of docstrings into Markdown."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        if obj.docstring:
            obj.docstring.value = to_markdown(obj.docstring.value)


def to_markdown(text: str) -> str:
    """Return a docstring with Markdown in place of reStructuredText.

    >>> to_markdown(":math:`x^2` of :class:`~idim.runs.Store`")
    '$x^2$ of <autoref identifier="idim.runs.Store" optional><code>Store</code></autoref>'
    """
    text = BLOCK.sub(_block, text + "\n")
    text = INLINE.sub(lambda found: f"${' '.join(found[1].split())}$", text)
    text = TABLE.sub(lambda found: _table(found[0].splitlines()), text)
    return ROLE.sub(_reference, text).rstrip("\n")


def _block(found: re.Match[str]) -> str:
    tex = " ".join([found[2].strip(), *textwrap.dedent(found[3]).split("\n")]).strip()
    return f"\n{found[1]}$$\n{found[1]}{tex}\n{found[1]}$$\n\n"


def _reference(found: re.Match[str]) -> str:
    short = found[2].rpartition(".")[2] if found[1] else found[2]
    return f'<autoref identifier="{found[2]}" optional><code>{short}</code></autoref>'


def _table(lines: list[str]) -> str:
    widths = [len(rule) for rule in lines[0].split()]
    rows = [_cells(line, widths) for line in lines[1:-1] if not line.startswith("===")]
    head = [""] * len(widths) if not any(line.startswith("===") for line in lines[1:-1]) else rows.pop(0)
    return "\n".join(_row(cells) for cells in [head, ["---"] * len(widths), *rows])


def _cells(line: str, widths: list[int]) -> list[str]:
    """Split a line at the columns of the rule; the last cell takes all that is left."""
    starts = [sum(width + 2 for width in widths[:i]) for i in range(len(widths))]
    return [line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
