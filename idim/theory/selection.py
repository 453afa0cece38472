"""Which runs a request is about, and what having had a choice among them costs.

A message says d and the seeds itself. The name of the network, the kind of projection, what becomes of the head, the
precision, the length of a text and which rows trained are its *setting*: one of as many as the runs of that task
have, all those of the store, not only those asked for. The logarithm of that number is paid. What was tried elsewhere
the store cannot
know: that is what ``--extra-bits`` is for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from idim import models, tasks
from idim.errors import RequestError
from idim.runs import Outcome, RunSpec, Store
from idim.subspace import stored
from idim.theory.finished import spec_in
from idim.theory.request import LEAST_KEY, BoundRequest

MOST_NAMED = 8  # values of a store in a complaint
RATE = 2.4  # of sqrt(d) lr, where nothing says what a folder was trained with


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A run to bound.

    Attributes:
        spec: the run.
        folder: where its trained numbers are, or None where it is in a store.
        choice: bits of its setting among those of the same task.
    """

    spec: RunSpec
    folder: Path | None = None
    choice: float = 0.0


def chosen(request: BoundRequest) -> list[Chosen]:
    """Return the runs of a request, in the order of task, network and d.

    Raises:
        RequestError: for a folder, a key or a store that has no such run.
    """
    folders = [Path(run) for run in request.runs if Path(run).is_dir()]
    keys = [run for run in request.runs if not Path(run).is_dir()]
    if keys and request.store is None:
        raise RequestError(f"a run is a folder of a saved subspace, or a key with --store DIR; received {keys[0]!r}")
    pairs: list[tuple[RunSpec, Path | None]] = [(in_folder(folder, request), folder) for folder in folders]
    settings = [spec for spec, _ in pairs]
    if request.store is not None:
        with Store.read(request.store) as store:
            done = [outcome for outcome in store.outcomes() if not outcome.failed]
        among = [o for o in done if o.spec.method == "subspace"]
        settings += [outcome.spec for outcome in among]
        if keys:
            pairs += [(_of_key(key, done, request.store), None) for key in keys]
        elif not folders:
            pairs += [(spec, None) for spec in _best(among, request)]
    runs = [Chosen(spec=spec, folder=folder, choice=choice_bits(spec, settings)) for spec, folder in pairs]
    return sorted(runs, key=lambda run: (run.spec.task, run.spec.model, run.spec.projection or "", run.spec.d or 0))


def choice_bits(spec: RunSpec, among: Iterable[RunSpec]) -> float:
    """Return the logarithm of the number of settings that runs of the same task have."""
    return math.log2(max(1, len({_setting(other) for other in among if other.task == spec.task})))


def _setting(spec: RunSpec) -> tuple[object, ...]:
    recipe = spec.recipe
    return spec.model, spec.projection, spec.head, recipe.precision, recipe.length, recipe.train_on


def in_folder(folder: Path, request: BoundRequest) -> RunSpec:
    """Return the run of a folder, put together from the request where the folder does not say it.

    Raises:
        RequestError: when neither says it, or it is not there.
    """
    record, _ = stored.read(folder)
    spec = spec_in(folder)
    if spec is not None:
        return spec
    if request.task is None:
        raise RequestError(
            f"{folder} does not say what was learned: give --task, and --model unless it is the task's own"
        )
    task = tasks.load(request.task, data=request.data)
    d = int(record["projection"]["d"])
    return RunSpec(
        task=task.name,
        fingerprint=task.fingerprint,
        model=models.resolve(task.default_model if request.model is None else request.model),
        method="subspace",
        projection=str(record["projection"]["kind"]),
        d=d,
        lr=RATE / math.sqrt(d),
        recipe=task.recipe,
        seed=request.seed,
    )


def _of_key(key: str, done: Sequence[Outcome], store: Path) -> RunSpec:
    found = [o.spec for o in done if len(key) >= LEAST_KEY and o.spec.key.startswith(key.lower())]
    if len(found) != 1:
        raise RequestError(
            f"a run must be a folder, or at least {LEAST_KEY} first digits of the key of one finished run of {store}; "
            f"received {key!r}, which {len(found) or 'none'} has"
        )
    return found[0]


def _best(among: Sequence[Outcome], request: BoundRequest) -> Iterator[RunSpec]:
    """Yield the run with the best selection score for each task, network, projection and d that is asked for."""
    best: dict[tuple[object, ...], Outcome] = {}
    for outcome in among:
        if outcome.result is None or not _asked_for(outcome.spec, request):
            continue
        place = (outcome.spec.task, outcome.spec.d, *_setting(outcome.spec))
        kept = best.get(place)
        if kept is None or kept.result is None or kept.result.selection_score < outcome.result.selection_score:
            best[place] = outcome
    if not best:
        raise _none_of(among, request)
    yield from (outcome.spec for outcome in best.values())


def _asked_for(spec: RunSpec, request: BoundRequest) -> bool:
    return all(value in wanted for wanted, value in _compared(spec, request).values() if wanted)


def _compared(spec: RunSpec, request: BoundRequest) -> dict[str, tuple[tuple[object, ...], object]]:
    """Return by option what is asked for, empty where nothing is, and what the run has."""
    singles = {
        "task": (request.task, spec.task),
        "model": (request.model, spec.model),
        "projection": (request.projection, spec.projection),
        "steps": (request.steps, spec.recipe.steps),
    }
    pairs = {name: (() if wanted is None else (wanted,), value) for name, (wanted, value) in singles.items()}
    return pairs | {"dims": (tuple(request.dimensions or ()), spec.d)}


def _none_of(among: Sequence[Outcome], request: BoundRequest) -> RequestError:
    """Return the complaint that no run is as asked for: what was asked, and what there is."""
    by_option: dict[str, tuple[tuple[object, ...], set[str]]] = {}
    for outcome in among:
        for name, (wanted, value) in _compared(outcome.spec, request).items():
            by_option.setdefault(name, (wanted, set()))[1].add(str(value))
    asked = {name: there for name, (wanted, there) in by_option.items() if wanted}
    if not asked:
        return RequestError(f"the store must have a finished run in a subspace; received {request.store} without any")
    lacking = "; ".join(
        f"--{name} {' '.join(map(str, by_option[name][0]))} where it has {', '.join(sorted(there)[:MOST_NAMED])}"
        f"{', …' if len(there) > MOST_NAMED else ''}"
        for name, there in asked.items()
    )
    return RequestError(
        f"the store must have a finished run in a subspace that is asked for; received {request.store} and {lacking}"
    )
