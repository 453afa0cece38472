"""Intrinsic prompt tuning: tune many tasks, find their subspace, tune d numbers a task inside it.

Source: Y. Qin et al., "Exploring Universal Intrinsic Task Subspace via Prompt Tuning", 2021, arXiv:2110.07867.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm.auto import tqdm

from idim import methods, models, tasks
from idim.errors import RequestError
from idim.files import writable_folder, write_json
from idim.learned.autoencoder import Finding, Found, find
from idim.learned.ipt_request import IPTRequest
from idim.learned.recovered import Share, fraction, gain
from idim.learned.task_losses import TaskLosses
from idim.learned.tunings import Plan, changes, keep_tunings, start
from idim.projections import resolve
from idim.projections.decoder_file import open_decoder, save_decoder
from idim.runs import Engine, Keep, Outcome, Processes, RunResult, RunSpec, Serial, Store
from idim.runs.store import ARTIFACTS
from idim.runs.train import alone
from idim.tasks import Recipe, Task
from idim.tasks.overlap import check_unseen, shared_rows


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """Where runs are made and kept.

    Args:
        store: an open store.
        workers: runs at once; one alone is trained in this process.
        data: the data folder.
        quiet: show no progress.
    """

    store: Store
    workers: int = 1
    data: Path | None = None
    quiet: bool = False

    def results(self, label: str, specs: Sequence[RunSpec], keep: Keep | None = None) -> list[RunResult]:
        """Return the result of every spec, training what the store lacks.

        Raises:
            RequestError: when one fails.
        """
        with self._engine(keep) as engine, tqdm(total=len(specs), desc=label, disable=self.quiet) as bar:

            def note(_: Outcome) -> None:
                bar.update()

            outcomes = engine.map(specs, note)
            bar.update(len(specs) - bar.n)  # those that the store had
        return [_result(outcomes[spec.key]) for spec in specs]

    def scores(self, label: str, specs: Sequence[RunSpec], keep: Keep | None = None) -> list[float]:
        """Return the score of every spec, as :meth:`results`."""
        return [result.score for result in self.results(label, specs, keep)]

    def _engine(self, keep: Keep | None) -> Engine:
        if self.workers == 1:
            return Serial(self.store, data=self.data, keep=keep)
        return Processes(self.store, data=self.data, workers=self.workers, keep=keep)


def _result(outcome: Outcome) -> RunResult:
    if outcome.result is None:
        raise RequestError(f"every run on every task must succeed; received {outcome.message} on {outcome.spec.task!r}")
    return outcome.result


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What d numbers a task recover of a tuning, on seen and unseen tasks.

    Attributes:
        path: the decoder.
        d, D: numbers a task, inside and in the method.
        errors: share of every seen tuning that its reconstruction misses.
        scores: by task: ``start`` (of the probe; of the best constant answer for a fresh head), ``tuned``, ``inside``.
        unseen: names of the unseen tasks.
        shared: rows that seen and unseen tasks share by accident, by pair of them.
    """

    path: Path
    d: int
    D: int
    errors: dict[str, float]
    scores: dict[str, dict[str, float]]
    unseen: tuple[str, ...]
    shared: dict[str, int]

    def shares(self, *, unseen: bool) -> tuple[Share, Share]:
        """Return the recovered fraction and gain of seen or unseen tasks."""
        chosen = {t: s for t, s in self.scores.items() if (t in self.unseen) == unseen}
        inside, tuned, start = (
            {task: scores[kind] for task, scores in chosen.items()} for kind in ("inside", "tuned", "start")
        )
        return fraction(inside, tuned), gain(inside, tuned, start)

    def __str__(self) -> str:
        width = max(map(len, self.scores))
        lines = [f"{self.path}: d = {self.d} of D = {self.D:,}", f"{'task':<{width}}  start   tuned   inside"]
        for task, s in self.scores.items():
            mark = "  unseen" if task in self.unseen else ""
            lines.append(f"{task:<{width}}  {s['start']:.4f}  {s['tuned']:.4f}  {s['inside']:.4f}{mark}")
        for unseen in (False, True) if self.unseen else (False,):
            of_tuning, of_gain = self.shares(unseen=unseen)
            who = "unseen" if unseen else "seen"
            lines.append(f"{who}: recovered {of_tuning} of the tuning, {of_gain} of its gain over the start")
        return "\n".join(lines)

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        groups = {"seen": False, "unseen": True} if self.unseen else {"seen": False}
        shares = {name: [dataclasses.asdict(s) for s in self.shares(unseen=flag)] for name, flag in groups.items()}
        write_json(path, dataclasses.asdict(self) | {"path": str(self.path), "recovered": shares})


def learn_ipt(request: IPTRequest) -> Tried:
    """Tune the tasks, find their subspace and write it, tune inside it; what the store has is not trained again.

    Raises:
        RequestError: when the request cannot be served, or a training fails.
    """
    writable_folder(request.out.absolute().parent)
    seen, others = (tuple(tasks.load(n, data=request.data) for n in names) for names in (request.seen, request.others))
    check_unseen(others, seen)
    finding = Finding(
        kind=request.decoder,
        d=request.columns,
        hidden=request.hidden,
        alpha=request.alpha,
        rounds=request.rounds,
        lr=request.decoder_lr,
        seed=request.seed,
    )
    with _workshop(request) as work:
        plan = plan_of(request, work.store.path / ARTIFACTS)
        starts, tuned = started_and_tuned(work, plan, (*seen, *others))
        found = learned(TaskLosses(plan, seen, request.data), finding, request.out)
        name, lr = resolve(f"decoder:{request.out}"), request.inside_lr / request.columns**0.5
        inside = work.scores("inside", [plan.inside(t, name, request.columns, lr) for t in (*seen, *others)])
    tried = Tried(
        path=request.out,
        d=request.columns,
        D=open_decoder(request.out).D,
        errors=found,
        scores={
            task.name: {"start": s, "tuned": t, "inside": i}
            for task, s, t, i in zip((*seen, *others), starts, tuned, inside, strict=True)
        },
        unseen=tuple(task.name for task in others),
        shared={f"{a.name}, {b.name}": n for a in seen for b in others if (n := shared_rows(b, a).count)},
    )
    tried.save(request.out.with_suffix(".json"))
    return tried


def plan_of(request: IPTRequest, artifacts: Path) -> Plan:
    """Return how the tasks of a request are tuned.

    Raises:
        RequestError: for an unknown model or method.
    """
    return Plan(
        model=models.resolve(request.model),
        method=methods.canonical(request.method or f"prompt:length={request.tokens}"),
        recipe=Recipe(
            optimizer="adamw",
            batch_size=request.batch,
            steps=request.steps,
            length=request.length,
            bucketed=True,
            warmup=0.1,
        ),
        pair_length=request.pair_length,
        probe_steps=request.probe_steps,
        probe_lr=request.probe_lr,
        lr=request.lr,
        heads=request.head,
        seed=request.seed,
        artifacts=artifacts,
    )


def starts_of(work: Workshop, plan: Plan, chosen: Sequence[Task]) -> list[float]:
    """Return the scores that tunings start from: of probes, which are made; of the best constant answer elsewhere.

    Raises:
        RequestError: when a probe fails.
    """
    if plan.heads == "fresh":
        return [task.chance for task in chosen]
    return work.scores("probes", [plan.probe(task) for task in chosen], plan.keep_heads)


def started_and_tuned(work: Workshop, plan: Plan, chosen: Sequence[Task]) -> tuple[list[float], list[float]]:
    """Return the scores of the starts and of the tunings, whose numbers are kept.

    Raises:
        RequestError: when one fails, or the method has no place on the network.
    """
    starts = starts_of(work, plan, chosen)
    keep = keep_tunings(plan, start(plan, chosen[0], work.data))
    return starts, work.scores("tunings", [plan.tuning(task) for task in chosen], keep)


def learned(losses: TaskLosses, finding: Finding, path: Path) -> dict[str, float]:
    """Write the decoder of a subspace of tuned tasks, and return what it misses of every tuning.

    A file that was learned so from the same tunings is kept.

    Raises:
        RequestError: when the tunings do not belong together, or cannot give it.
    """
    plan, names = losses.plan, [task.name for task in losses.tasks]
    vectors = changes([plan.artifacts / plan.tuning(task).key for task in losses.tasks], losses.numbers)
    about: dict[str, Any] = {
        "how": "ipt",
        "model": plan.model,
        "method": plan.method,
        "tasks": names,
        "finding": dataclasses.asdict(finding),
        "sources": hashlib.sha256(vectors.numpy().tobytes()).hexdigest()[:32],
    }
    if path.is_file() and (before := open_decoder(path).learned).items() >= about.items():
        return dict(before["errors"])
    found = _found(losses, finding, vectors)
    errors = dict(zip(names, found.errors, strict=True))
    about |= {"errors": errors, "task_losses": list(found.task_losses)}
    save_decoder(path, found.layers, losses.numbers, learned=about)
    return errors


def _found(losses: TaskLosses, finding: Finding, vectors: Tensor) -> Found:
    with alone(finding.seed):
        return find(vectors, finding, losses.losses(finding.turns, finding.seed) if finding.turns else None)


@contextmanager
def _workshop(request: IPTRequest) -> Iterator[Workshop]:
    folder = request.store or request.out.absolute().parent / "store"
    with Store(folder) as store:
        yield Workshop(store=store, workers=request.workers, data=request.data, quiet=request.quiet)
