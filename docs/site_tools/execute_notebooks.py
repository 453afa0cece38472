"""Execute the notebooks: ``python docs/site_tools/execute_notebooks.py [NAME …]``.

Each ``notebooks/NAME.py`` (percent format) becomes ``NAME.ipynb`` with its outputs. What only a live session can show
(progress) and second copies of an output as text are left out, and nothing in the file depends on when it was made.
"""

from __future__ import annotations

import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
WIDGET = "application/vnd.jupyter.widget-view+json"


def execute(source: Path) -> None:
    """Write the executed notebook of a source."""
    notebook = jupytext.read(source)
    NotebookClient(notebook, timeout=600, record_timing=False, resources={"metadata": {"path": str(FOLDER)}}).execute()
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        if cell.cell_type == "code":
            cell.outputs = [
                tidied(o) for o in cell.outputs if WIDGET not in o.get("data", {}) and o.get("name") != "stderr"
            ]
    notebook.metadata = {
        "jupytext": {"formats": "ipynb,py:percent"},
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    }
    nbformat.write(notebook, source.with_suffix(".ipynb"))


def tidied(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return an output without its text, where it has a richer form."""
    data = output.get("data", {})
    if set(data) & {"text/html", "image/png"}:
        data.pop("text/plain", None)
    return output


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted(path.stem for path in FOLDER.glob("*.py")):
        execute(FOLDER / f"{name}.py")
