"""Where the runs of a request are made and kept: the folder it writes, its store, its engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from idim import tasks
from idim.files import named_folder
from idim.runs import engines
from idim.runs.engine import Engine
from idim.runs.store import Store


class Asked(engines.Asked, Protocol):
    """What the requests of all commands that train say of their work and its place."""

    @property
    def task(self) -> str:
        """What is learned."""

    @property
    def model(self) -> str | None:
        """What learns it; None for the task's own."""

    @property
    def store(self) -> Path | None:
        """The folder of finished runs; None for the one beside what is written."""

    @property
    def out(self) -> Path | None:
        """The folder that is written; None for one with a name of its own."""


def output_folder(request: Asked, *, before: tuple[str, ...] = (), after: tuple[str, ...] = ()) -> Path:
    """Return where a request writes: ``out``, or a name made of its task and its model, with words before and after.

    Raises:
        RequestError: for an unknown task.
    """
    if request.out is not None:
        return request.out
    model = tasks.load(request.task, data=request.data).default_model if request.model is None else request.model
    return named_folder(*before, request.task, model, *after)


@contextmanager
def opened(request: Asked, out: Path) -> Iterator[tuple[Store, Engine]]:
    """Open the store of a request that writes to ``out``, and its engine.

    Raises:
        RequestError: for a store that another process writes, or an engine whose library is missing.
    """
    with Store(request.store or out.absolute().parent / "store") as store, engines.create(request, store) as engine:
        yield store, engine
