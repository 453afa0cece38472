"""TeX in the pages becomes MathML while the site is built.

Browsers draw MathML themselves, so a page needs no script, no font and no network when it is read; on GitHub the
same ``$…$`` is drawn by GitHub.
"""

from __future__ import annotations

import html
import re

from latex2mathml.converter import convert

# what pymdownx.arithmatex leaves of $…$ and $$…$$ with `generic: true`
INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
BLOCK = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.DOTALL)


def drawn(page: str) -> str:
    """Return the HTML of a page with its TeX as MathML.

    Raises:
        ValueError: for a command that has no MathML.
    """
    page = INLINE.sub(lambda found: _mathml(found[1], "inline"), page)
    return BLOCK.sub(lambda found: _mathml(found[1], "block"), page)


def _mathml(tex: str, display: str) -> str:
    tex = html.unescape(tex).strip()
    mathml = convert(tex, display=display).replace(r"\{", "{").replace(r"\}", "}")  # braces after \Big stay escaped
    if "\\" in mathml:  # what the converter does not know it leaves as it stands
        raise ValueError(f"mathematics must be drawn whole; received {tex}")
    return mathml
