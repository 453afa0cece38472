"""``lm:``: foretell each next token of a text, for decoders; judged by perplexity.

===========================  ==========================================================================
``lm:NAME``                  the texts of a known text task, such as ``lm:rotten_tomatoes``
``lm:csv:PATH[,text=C]``     a table, or a folder of splits, as for ``csv:``; labels are not asked for
``lm:hf:NAME[,text=C]``      a data set of the hub, as for ``hf:``
``lm:txt:PATH``              plain text, UTF-8: a text a line, in one file or in ``train.txt`` and its like
===========================  ==========================================================================

A row is one text, the two sentences of a pair one after the other, cut after the recipe's ``length`` tokens; rows
are not joined into longer ones. Its first token is given, each further one is foretold from those before it, and a
text without any word is left out. The loss is the mean of -ln p over all tokens foretold, whichever row they are in.

A text gives dozens of answers where a label is one, so the two held-out splits are cut to :data:`HELD` rows, chosen
by the hash of the text. Perplexities of two tokenizers are not comparable: their tokens differ.
"""

from __future__ import annotations

import functools
import gzip
import os
import zlib
from collections.abc import Mapping
from pathlib import Path

import torch

from idim.errors import RequestError
from idim.tasks import hub, tables
from idim.tasks.recipe import Recipe
from idim.tasks.task import Split, Task, fingerprint
from idim.tasks.texts import Part, Parts, Table, Texts, digest, split

PREPARATION = "next tokens of texts, version 1"
HELD = 512  # rows of the selection and of the report split
RECIPE = Recipe(optimizer="adamw", batch_size=8, steps=200, length=48, bucketed=True, warmup=0.1)
OPTIONS = ("text", "text2")
SUFFIXES = (".txt", ".txt.gz")
KINDS = ("csv", "hf", "txt")
"""Sources that are read here; any other is the name of a text task."""


def load(argument: str) -> Task:
    """Return the task of what follows ``lm:``, a place of texts.

    Raises:
        RequestError: for a missing path or column, and for a source without texts.
    """
    kind, _, place = argument.partition(":")
    path, options = tables.parse(place, f"lm:{kind}:PATH[,text=COLUMN][,text2=COLUMN]", OPTIONS)
    if not path or (kind == "txt" and options):
        raise RequestError(f"task 'lm:{kind}:PATH' needs a path; received {'lm:' + argument!r}")
    if kind == "hf":
        return _from_hub(argument, path, tuple(options.items()))
    suffixes = SUFFIXES if kind == "txt" else tables.SUFFIXES
    files = tables.stamps(f"lm:{argument}", Path(os.path.expanduser(path)), suffixes)
    return _from_files(argument, files, None if kind == "txt" else tables.Columns(**options, label=None))


@functools.lru_cache(maxsize=4)
def from_task(task: Task) -> Task:
    """Return the task of foretelling the texts of a task, in its splits.

    Raises:
        RequestError: for a task of numbers.
    """
    parts = (task.train, task.selection, task.report)
    if not all(isinstance(part.inputs, Texts) for part in parts):
        raise RequestError(f"task 'lm:NAME' needs a task of texts; received {'lm:' + task.name!r}, of numbers")
    found = [_plain(part.inputs) for part in parts if isinstance(part.inputs, Texts)]
    return _task(f"lm:{task.name}", Parts(train=found[0], selection=found[1], report=found[2]))


@functools.lru_cache(maxsize=2)
def _from_hub(argument: str, place: str, options: tuple[tuple[str, str], ...]) -> Task:
    return _from_tables(argument, hub.read(place, {**dict(options), "label": None}))


@functools.lru_cache(maxsize=4)
def _from_files(argument: str, files: tables.Stamps, columns: tables.Columns | None) -> Task:
    read = {part: _lines(p) if columns is None else tables.read_table(p, columns) for part, p, _, _ in files}
    return _from_tables(argument, read)


def _from_tables(argument: str, read: Mapping[Part, Table]) -> Task:
    name = f"lm:{argument}"
    return _task(name, split({part: _plain(table.texts) for part, table in read.items()}, f"task {name!r}"))


def _lines(path: Path) -> Table:
    """Return the lines of a file."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        lines = tuple(content.decode("utf-8-sig").splitlines())
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise RequestError(f"cannot read {path} as UTF-8 text: {' '.join(str(error).split())}") from error
    return Table(texts=Texts(first=lines), labels=("",) * len(lines))


def _plain(texts: Texts) -> Table:
    """Return the texts that have a word, the two of a pair as one, without labels."""
    rows = texts.first if texts.second is None else map("\n".join, zip(texts.first, texts.second, strict=True))
    kept = tuple(row for row in rows if row.strip())
    return Table(texts=Texts(first=kept), labels=("",) * len(kept))


def _task(name: str, parts: Parts) -> Task:
    parts = Parts(train=parts.train, selection=_cut(parts.selection), report=_cut(parts.report))
    if not all(map(len, parts.tables())):
        raise RequestError(f"task {name!r} must have texts with words in every split; received an empty one")
    train, selection, report = (_split(table) for table in parts.tables())
    return Task(
        name=name,
        train=train,
        selection=selection,
        report=report,
        metric="perplexity",
        chance=float("nan"),
        input_shape=(),
        outputs=1,
        default_model="smollm2",
        default_bar="above-chance:0.9",
        recipe=RECIPE,
        fingerprint=fingerprint(PREPARATION, [table.bytes() for table in parts.tables()]),
    )


def _cut(table: Table) -> Table:
    """Return at most :data:`HELD` rows, those with the smallest hashes, in their order."""
    chosen = sorted(range(len(table)), key=lambda row: digest(table.texts.first[row]))[:HELD]
    return table.take(sorted(chosen))


def _split(table: Table) -> Split:
    return Split(inputs=table.texts, targets=torch.empty(len(table), 0))
