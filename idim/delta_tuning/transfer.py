"""Zero-shot transfer: what a method learned on one task, head included, scored on another without more tuning.

A training on task A gives a network of A's outputs; it answers the rows of any task B with as many. Numbers of classes
agree or not; their meanings need not: a film review tuned to 0 = negative meets 0 = objective as it is. Each
network is trained with the rate that was found on the task of the table, and once.

N. Ding et al., Delta Tuning, 2022, arXiv:2203.06904, section 4.5.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from idim import tasks
from idim.delta_tuning.bench import Bench
from idim.errors import RequestError
from idim.files import write_json
from idim.runs import RunSpec
from idim.runs.learner import attached, network
from idim.runs.rows import rows_of
from idim.runs.train import alone, fit, load_task, score, weights_folder
from idim.tasks import Task

FILE = "transfer.json"
Scores = dict[str, dict[str, dict[str, float]]]
"""By method, task tuned on, task scored on."""


def others(names: Sequence[str], own: Task, data: Path | None) -> tuple[Task, ...]:
    """Return the tasks of a transfer, the table's own first.

    Raises:
        RequestError: for a task that cannot be had, or whose outputs are not those of the table's task.
    """
    found = [own, *(tasks.load(name, data=data) for name in names if name != own.name)]
    for task in found:
        if (task.outputs, task.input_shape, task.next_token) != (own.outputs, own.input_shape, own.next_token):
            raise RequestError(
                f"tasks of a transfer must have as many outputs, of rows alike; received {own.outputs} of "
                f"{list(own.input_shape)} in {own.name!r}, {task.outputs} of {list(task.input_shape)} in {task.name!r}"
            )
    return tuple(found)


def transfers(
    bench: Bench,
    among: Sequence[Task],
    rates: Mapping[str, float],
    *,
    data: Path | None,
    folder: Path,
    quiet: bool = True,
) -> Scores:
    """Return the score of every method, tuned on each task, on all of them; finished ones are kept in a file.

    Args:
        bench: the network and the recipe; its task is replaced by each of ``among``.
        among: the tasks.
        rates: the learning rate of each method.
        data: the data folder, where pretrained networks are found.
        folder: where the file is.
        quiet: show no progress.
    """
    from tqdm.auto import tqdm

    known = _read(folder)
    specs = {
        (method, source.name): dataclasses.replace(bench, task=source).trial(method, lr)
        for method, lr in rates.items()
        for source in among
    }
    for spec in tqdm(specs.values(), unit=" trainings", desc="transfer", disable=quiet, leave=False):
        missing = [task for task in among if _key(spec, task) not in known]
        if missing:
            known |= {_key(spec, t): s for t, s in zip(missing, scores_on(spec, missing, data), strict=True)}
            write_json(folder / FILE, known)
    return {
        method: {s.name: {t.name: known[_key(specs[method, s.name], t)] for t in among} for s in among}
        for method in rates
    }


def scores_on(spec: RunSpec, targets: Sequence[Task], data: Path | None) -> list[float]:
    """Train one spec and return its scores on the report splits of some tasks.

    Raises:
        TrainingFailed: when a loss or an answer is not finite.
    """
    source = load_task(spec, data)
    with alone(spec.seed):
        learned = attached(spec, network(spec, source, weights_folder(data)))
        fit(spec, source, learned, after_step=learned.after_step)
        return [score(spec, target, learned.module, rows_of(spec, target.report)) for target in targets]


def _key(spec: RunSpec, target: Task) -> str:
    return f"{spec.key}:{target.fingerprint}"


def _read(folder: Path) -> dict[str, float]:
    try:
        return dict(json.loads((folder / FILE).read_text()))
    except (OSError, ValueError):
        return {}
