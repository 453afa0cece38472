"""Links that leave ``docs/`` lead somewhere on the site too.

A page may link to ``../idim/kernels/bits.py``, which GitHub opens. For the site each such file becomes a page that
shows its text, and each notebook a page with its cells and what they gave; a picture comes along as it is.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path, PurePosixPath

from site_tools import notebooks

LINK = re.compile(r"\]\((\.\./[^)\s#]+)(#[^)\s]*)?\)")
LANGUAGES = {".py": "python", ".md": "markdown", ".yaml": "yaml", ".json": "json", ".sh": "bash"}
PICTURES = (".png", ".pdf")
UNSEARCHED = "---\nsearch:\n  exclude: true\n---\n"


def outside(uri: str, target: str) -> str | None:
    """Return the path in the repository of a link on page ``uri``, or None where it stays inside ``docs/``."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(uri), target))
    return None if path.startswith("docs/") else path


def page_of(path: str) -> str:
    """Return where on the site a file of the repository is shown."""
    if path.startswith("notebooks/"):
        return f"notebooks/{PurePosixPath(path).stem}.md"
    if path.endswith(PICTURES):
        return f"source/{path}"
    return f"source/{path}.md"


def content(root: Path, path: str) -> str | bytes:
    """Return what stands on the site for a file or folder of the repository: a picture itself, else a page.

    Raises:
        FileNotFoundError: when the repository has no such file.
    """
    return (root / path).read_bytes() if path.endswith(PICTURES) else shown(root, path)


def shown(root: Path, path: str) -> str:
    """Return the page that shows a file or folder of the repository.

    Raises:
        FileNotFoundError: when the repository has no such file.
    """
    place = root / path
    if place.is_dir():
        return f"{UNSEARCHED}# {path}\n\n" + "".join(f"- `{entry}`\n" for entry in sorted(os.listdir(place)))
    if place.suffix == ".ipynb":
        return notebooks.page(place)
    text, language = place.read_text(), LANGUAGES.get(place.suffix, "text")
    return f"{UNSEARCHED}# {path}\n\n````````{language}\n{text}\n````````\n"


def linked(markdown: str, uri: str) -> set[str]:
    """Return the files of the repository that a page links to."""
    return {path for found in LINK.finditer(markdown) if (path := outside(uri, found[1]))}


def relinked(markdown: str, uri: str) -> str:
    """Return a page whose links to files of the repository lead to their pages."""

    def link(found: re.Match[str]) -> str:
        path = outside(uri, found[1])
        if path is None:
            return found[0]
        return f"]({posixpath.relpath(page_of(path), posixpath.dirname(uri) or '.')})"

    return LINK.sub(link, markdown)
