"""An engine computes what a store lacks. Which engine does it makes no difference to the numbers."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import torch

from idim import models, projections
from idim.errors import RequestError
from idim.runs.artifacts import Keep
from idim.runs.result import Outcome
from idim.runs.spec import RunSpec
from idim.runs.store import Store
from idim.runs.train import load_task, train, weights_folder

NO_MEMORY = ("can't allocate memory", "not enough memory")  # in what torch's allocators for the CPU raise
Progress = Callable[[Outcome], None]


class Engine(ABC):
    """Computes runs into a store; a kind implements ``_compute``. Use it in a ``with`` statement.

    Args:
        store: where outcomes are looked up and kept.
        data: the data folder, as for :func:`idim.tasks.load`.
        keep: which tensors of the runs to write; a run whose tensors are missing is trained again for them.
    """

    def __init__(self, store: Store, data: Path | None = None, *, keep: Keep | None = None) -> None:
        self.store = store
        self.data = data
        self.keep = keep

    def map(self, specs: Iterable[RunSpec], progress: Progress | None = None) -> dict[str, Outcome]:
        """Return the outcome of every spec by its key, training what the store lacks.

        Each outcome is kept as it arrives, so whatever ends this early loses only runs in flight. An
        exception inside a training is a failed outcome and the others go on.

        Args:
            specs: in the order they should be trained; repeats are trained once.
            progress: told each outcome that was trained now, after it is kept.

        Raises:
            RequestError: when the data cannot be loaded or the store no longer written.
        """
        wanted = {spec.key: spec for spec in specs}
        found = {key: self.store.get(spec) for key, spec in wanted.items()}
        known = {key: outcome for key, outcome in found.items() if outcome is not None and self._has_kept(outcome)}
        try:
            for outcome in self._compute([spec for key, spec in wanted.items() if key not in known]):
                known[outcome.spec.key] = outcome
                if progress is not None:
                    progress(outcome)
        except BaseException:
            self.close()
            with contextlib.suppress(RequestError):  # a store that can no longer be written is not the news
                self.store.release()
            raise
        return {key: known[key] for key in wanted}

    def _has_kept(self, outcome: Outcome) -> bool:
        return self.keep is None or outcome.failed or self.keep.complete(outcome.spec)

    @abstractmethod
    def _compute(self, specs: Sequence[RunSpec]) -> Iterator[Outcome]:
        """Yield the outcome of every spec, in any order, each started and finished in the store."""

    def close(self) -> None:  # noqa: B027  a kind that holds nothing has nothing to do
        """Release what the engine holds; it can be used again."""

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def attempt(spec: RunSpec, data: Path | None, keep: Keep | None = None) -> Outcome:
    """Train one spec; what goes wrong inside the training is its outcome.

    Raises:
        RequestError: when its task cannot be loaded, or the file of its model or basis is gone or has changed:
            that is the caller's to mend, and no result.
    """
    task = load_task(spec, data)
    models.resolve(spec.model)
    if spec.projection is not None:
        projections.resolve(spec.projection)
    try:
        return Outcome(spec=spec, result=train(spec, task, weights=weights_folder(data), keep=keep))
    except Exception as error:
        if _lacks_memory(error):
            return Outcome(spec=spec, message=f"{_line(error)} ({_sizes(spec)})", passing=True)
        return Outcome(spec=spec, message=_line(error))


def _lacks_memory(error: Exception) -> bool:
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or any(words in str(error) for words in NO_MEMORY)


def _sizes(spec: RunSpec) -> str:
    recipe = spec.recipe
    texts = f" of texts cut at {recipe.length} tokens" if recipe.length else ""
    parts = f" in {recipe.accumulate} parts" if recipe.accumulate > 1 else ""
    return f"batch of {recipe.batch_size or 'all'} rows{texts}{parts}: lower --batch or --length, or raise --accumulate"


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, RequestError) else f"{type(error).__name__}: {text}"
