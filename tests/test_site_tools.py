"""What builds the site beside mkdocs: mathematics, links that leave the pages, docstrings as Markdown."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs"))
pytest.importorskip("latex2mathml", reason="the extra 'docs' has latex2mathml")
pytest.importorskip("griffe", reason="the extra 'docs' has griffe")

from site_tools import docstrings, mathematics, notebooks, sources  # noqa: E402


@pytest.mark.parametrize("tex", [r"\theta_0 + P z", r"\min\Big\{ r : p \ge x \Big\}", r"a &lt; b"])
def test_mathematics_becomes_mathml(tex: str) -> None:
    page = mathematics.drawn(rf'<p><span class="arithmatex">\({tex}\)</span></p>')
    assert page.startswith("<p><math ")
    assert page.endswith("</math></p>")
    assert "\\" not in page
    assert "arithmatex" not in page


def test_blocks_of_mathematics_are_blocks() -> None:
    page = mathematics.drawn('<div class="arithmatex">\\[\nx^2\n\\]</div>')
    assert 'display="block"' in page


def test_unknown_mathematics_stops_the_build() -> None:
    with pytest.raises(ValueError, match="must be drawn whole"):
        mathematics.drawn(r'<span class="arithmatex">\(\nosuchcommand x\)</span>')


def test_links_out_of_the_pages_lead_to_pages() -> None:
    text = "[a](../idim/cli.py) [b](../measure.md#x) [c](../../README.md) [d](../../notebooks/n.ipynb#y)"
    assert sources.linked(text, "concepts/p.md") == {"README.md", "notebooks/n.ipynb"}
    assert sources.relinked(text, "concepts/p.md").endswith("[c](../source/README.md.md) [d](../notebooks/n.md)")
    assert sources.relinked("[a](../idim/cli.py)", "p.md") == "[a](source/idim/cli.py.md)"


def test_a_source_is_shown_whole() -> None:
    assert (ROOT / "idim" / "cli.py").read_text() in sources.shown(ROOT, "idim/cli.py")
    with pytest.raises(FileNotFoundError):
        sources.shown(ROOT, "idim/no_such_file.py")


def test_a_picture_comes_along_as_it_is() -> None:
    text = "![a](../paper_figs/drawn/budget.png)"
    assert sources.linked(text, "figures.md") == {"paper_figs/drawn/budget.png"}
    assert sources.relinked(text, "figures.md") == "![a](source/paper_figs/drawn/budget.png)"
    picture = sources.content(ROOT, "paper_figs/drawn/budget.png")
    assert isinstance(picture, bytes)
    assert picture.startswith(b"\x89PNG")
    assert isinstance(sources.content(ROOT, "idim/cli.py"), str)


def test_roles_and_formulas_of_docstrings_become_markdown() -> None:
    assert docstrings.to_markdown(":math:`a\n b` of :class:`~idim.runs.Store`") == (
        '$a b$ of <autoref identifier="idim.runs.Store" optional><code>Store</code></autoref>'
    )
    text = "Before\n\n.. math::\n    x = 1,\n    y\n\nAfter"
    assert docstrings.to_markdown(text) == "Before\n\n\n$$\nx = 1, y\n$$\n\nAfter"


def test_tables_of_docstrings_become_markdown() -> None:
    text = "===  =====\na    b\ncc   d e f\n===  ====="
    assert docstrings.to_markdown(text) == "|  |  |\n| --- | --- |\n| a | b |\n| cc | d e f |"


def test_a_notebook_becomes_a_page(tmp_path: Path) -> None:
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": ["one\n"]},
        {"output_type": "display_data", "data": {"image/png": "QUJD", "text/plain": "no"}},
    ]
    cells = [{"cell_type": "markdown", "source": "# T"}, {"cell_type": "code", "source": "f()", "outputs": outputs}]
    (tmp_path / "n.ipynb").write_text(json.dumps({"cells": cells}))
    assert notebooks.page(tmp_path / "n.ipynb").split("\n\n") == [
        "# T",
        "```python\nf()\n```",
        "```text\none\n```",
        '<p><img alt="" src="data:image/png;base64,QUJD"></p>',
    ]
