"""The code in README and docs runs, page by page, in the order in which it stands there.

A fence of ``python`` is executed, in one namespace a page; a ``bash`` or ``console`` fence has its ``idim`` lines
carried out; a fence with ``title="FILE"`` is also written to that file. Two marks behind the language exempt a fence:
``slow`` (run by ``pytest -m slow``) and ``not-run`` (needs data or files of the reader's, or other programs). Marked or
not, every ``idim`` line must be one that the program accepts.
"""

from __future__ import annotations

import re
import shlex
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docs_setup
import pytest
import yaml

from idim import cli

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "experiments" / "README.md", *DOCS.rglob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
FENCE = re.compile(r"^(?P<ticks>`{3,})(?P<info>[^`\n]*)\n(?P<body>.*?)^(?P=ticks)\s*$", re.MULTILINE | re.DOTALL)
SHELL, RUN = ("bash", "console"), ("python", "bash", "console")
MARKS = ("slow", "not-run")
UNRUN = {  # fences that no test runs: this table grows only by hand
    "README.md": 6,
    "docs/howto/measure.md": 1,
    "docs/index.md": 1,
    "docs/learned.md": 4,
    "docs/methods.md": 1,
    "docs/spectrum.md": 1,
    "docs/sweep.md": 2,
}


@dataclass(frozen=True, kw_only=True)
class Fence:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    words: tuple[str, ...]
    body: str

    @property
    def title(self) -> str | None:
        """The file that the block says it is."""
        return next((word.split("=")[1] for word in self.words if word.startswith("title=")), None)

    @property
    def commands(self) -> list[list[str]]:
        """The arguments of every ``idim`` line of a shell block."""
        whole = self.body.replace("\\\n", " ")  # a line may go on behind a backslash
        lines = (line.removeprefix("$ ") for line in whole.splitlines())
        return [split(line) for line in lines if line.startswith("idim ")]


def fences(page: Path) -> list[Fence]:
    """Return the fenced blocks of a page, those of other languages too."""
    text = page.read_text()
    found = []
    for match in FENCE.finditer(text):
        language, *words = shlex.split(match["info"]) or [""]
        line = text.count("\n", 0, match.start()) + 2
        name = str(page.relative_to(ROOT))
        found.append(Fence(page=name, line=line, language=language, words=tuple(words), body=match["body"]))
    return found


def split(line: str) -> list[str]:
    """Return the arguments of a command line, with the place of a job in its array filled in."""
    return shlex.split(line.replace("$SLURM_ARRAY_TASK_ID", "1").replace("…", ""), comments=True)[1:]


@dataclass
class Reader:
    """Someone who works through a page: a namespace that lives on from block to block, and what was done."""

    page: str
    module: types.ModuleType
    done: list[Fence] = field(default_factory=list)

    def work(self, fence: Fence) -> None:
        """Do what a block says."""
        if fence.title is not None:
            Path(fence.title).parent.mkdir(parents=True, exist_ok=True)
            Path(fence.title).write_text(fence.body)
        if fence.language == "python":
            source = "\n" * (fence.line - 1) + fence.body  # so that a traceback names the line of the page
            exec(compile(source, fence.page, "exec", dont_inherit=True), self.module.__dict__)
        elif fence.language in SHELL:
            for arguments in fence.commands:
                command(arguments)
        self.done.append(fence)


def command(arguments: list[str]) -> None:
    """Run ``idim`` in this process, quietly where it can be, and see it end with status 0."""
    with pytest.raises(SystemExit) as leaving:
        cli.main(arguments)
    assert leaving.value.code == 0, f"idim {shlex.join(arguments)}"


@pytest.fixture
def reader(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    name = request.param
    module = types.ModuleType("page")  # dataclasses look their module up by name
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "page", module)
    docs_setup.prepare(name, module.__dict__)
    return Reader(page=name, module=module)


def runnable(name: str, *, without: tuple[str, ...]) -> list[Fence]:
    """Return the blocks of a page to work through, but for the marked ones."""
    return [fence for fence in fences(ROOT / name) if not set(without) & set(fence.words)]


WITH_CODE = [name for name in NAMES if any(f.language in RUN for f in runnable(name, without=MARKS))]
WITH_SLOW = [name for name in NAMES if any("slow" in fence.words for fence in fences(ROOT / name))]


@pytest.mark.parametrize("reader", WITH_CODE, indirect=True, ids=str)
def test_the_code_of_a_page_runs(reader: Reader) -> None:
    for fence in runnable(reader.page, without=MARKS):
        reader.work(fence)
    assert any(fence.language in RUN for fence in reader.done)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("reader", WITH_SLOW, indirect=True, ids=str)
def test_the_whole_of_a_page_runs(reader: Reader) -> None:
    for fence in runnable(reader.page, without=("not-run",)):
        reader.work(fence)


@pytest.mark.parametrize("name", NAMES)
def test_marks_are_known_and_counted(name: str) -> None:
    found = [fence for fence in fences(ROOT / name) if fence.language in RUN]
    for fence in found:
        plain = [word for word in fence.words if not word.startswith("title=")]
        assert set(plain) <= set(MARKS), f"{name}:{fence.line}: {plain}"
        if fence.language in SHELL and not plain:
            lines = [line.removeprefix("$ ") for line in fence.body.splitlines() if line.strip()]
            assert all(line.startswith("idim ") for line in lines), f"{name}:{fence.line}: only idim lines are run"
    assert sum("not-run" in fence.words for fence in found) == UNRUN.get(name, 0)


def commands(name: str) -> list[list[str]]:
    return [arguments for fence in fences(ROOT / name) if fence.language in SHELL for arguments in fence.commands]


@pytest.mark.parametrize("name", [name for name in NAMES if commands(name)])
def test_every_command_is_one_that_the_program_accepts(name: str) -> None:
    for arguments in commands(name):
        cli._parse(arguments)


def test_every_page_is_in_the_navigation() -> None:
    def pages(entry: Any) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        for inner in entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ():
            yield from pages(inner)

    there = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    shown = set(pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert {page for page in shown if not page.startswith("notebooks/")} == there


LINK = re.compile(r"\]\(([^)\s#:]+)(?:#[^)\s]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_to_files_of_the_repository(page: Path) -> None:
    text = FENCE.sub("", page.read_text())
    missing = [target for target in LINK.findall(text) if not (page.parent / target).exists()]
    assert not missing, f"{page.name}: {missing}"


def test_a_fence_is_read() -> None:
    body = '$ idim measure --lr "2/sqrt(d)"  # why\nls\n'
    block = Fence(page="p", line=1, language="bash", words=("slow",), body=body)
    assert block.commands == [["measure", "--lr", "2/sqrt(d)"]]
    with pytest.raises(Exception, match="Unrecognized"):
        cli._parse(["measure", "--no-such-option", "1"])
