"""A notebook, executed, as a page in Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NOISE = ("application/vnd.jupyter.widget-view+json",)


def page(path: Path) -> str:
    """Return the cells of a notebook and what they gave."""
    cells = json.loads(path.read_text())["cells"]
    return "\n\n".join(part for cell in cells for part in _parts(cell))


def _parts(cell: dict[str, Any]) -> Iterator[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source
    elif cell["cell_type"] == "code" and source:
        yield f"```python\n{source}\n```"
        for output in cell["outputs"]:
            yield from _output(output)


def _output(output: dict[str, Any]) -> Iterator[str]:
    data = output.get("data", {})
    if "image/png" in data:
        yield f'<p><img alt="" src="data:image/png;base64,{"".join(data["image/png"]).strip()}"></p>'
    elif "text/html" in data:
        yield f'<div class="notebook-output">{"".join(data["text/html"])}</div>'
    elif "text/plain" in data and not any(kind in data for kind in NOISE):
        yield _text("".join(data["text/plain"]))
    elif output["output_type"] == "stream" and output["name"] == "stdout":
        yield _text("".join(output["text"]))


def _text(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```"
