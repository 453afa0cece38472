"""What mkdocs calls while it builds the site."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # mkdocs loads this file by its path

from site_tools import mathematics, sources

MARKED = re.compile(r"^( *```+[a-z]+) (?:not-run|slow)$", re.MULTILINE)  # for tests/test_docs.py, not for readers


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for every file of the repository that a page links to."""
    root = Path(config.docs_dir).parent
    pages = files.documentation_pages()
    for path in sorted(set().union(*(sources.linked(page.content_string, page.src_uri) for page in pages))):
        files.append(File.generated(config, sources.page_of(path), content=sources.content(root, path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links at the pages of :func:`on_files`; take the marks of tests off blocks of code."""
    return MARKED.sub(r"\1", sources.relinked(markdown, page.file.src_uri))


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Draw the mathematics."""
    return mathematics.drawn(html)
