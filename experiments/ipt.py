"""How few numbers a task does prompt tuning take in a subspace of other tasks' prompts?

Y. Qin et al., Exploring Universal Intrinsic Task Subspace via Prompt Tuning, 2021, arXiv:2110.07867, on small tasks.

    python -m experiments.ipt --workers 2        # resumable; two hours of two cores
    python -m experiments.ipt --until mlp        # as far as a stage

MiniLM with soft prompts in every layer (P-tuning v2), on ten tasks to learn from and five unseen ones. Heads are frozen
after few steps of a linear probe (:mod:`idim.learned.tunings`), which say what the classes mean, as the paper's words
do, and leave prompts something to gain. Two other starts were tried first: over probes that have converged, prompts
gain at most 0.03 on 13 of 15 tasks, nothing that a share could be taken of; over fresh heads, a class means nothing
that two tasks could have in common, and five coordinates of a linear decoder gave two unseen tasks no more than the
constant answer.

Runs are in ``experiments/ipt_store``; the decoders, in ``experiments/ipt_decoders``, are not committed and are made
again. Every stage writes what is known so far to ``experiments/results/ipt/`` (:mod:`experiments.ipt_report`). Rates:
for every kind of subspace c of the rate c/√d is the best of three or four by the selection split, on two tasks, at the
d that is nearest to 10.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.ipt_report import Report
from idim import tasks
from idim.errors import RequestError
from idim.learned.autoencoder import Finding
from idim.learned.ipt import Workshop, learned, started_and_tuned
from idim.learned.task_losses import TaskLosses
from idim.learned.tunings import Plan, start
from idim.projections import resolve
from idim.projections.decoder_file import open_decoder
from idim.runs import RunSpec, Store
from idim.runs.environment import versions
from idim.runs.store import ARTIFACTS
from idim.tasks import Recipe, Task
from idim.tasks.overlap import check_unseen, shared_rows

HERE = Path(os.path.relpath(Path(__file__).parent))  # names of runs hold no place on a machine
STORE, DECODERS = HERE / "ipt_store", HERE / "ipt_decoders"
SEEN = ("sst2_sentences", "rotten_tomatoes", "subj", "trec", "snips", "cola", "mrpc", "ag_news", "qnli_dev", "stsb")
UNSEEN = ("cr", "sms_spam", "clinc150", "rte", "wnli")
JUDGES = ("trec", "sst2_sentences")  # choose rates
ROWS = 300  # of the selection and the report split
RECIPE = Recipe(optimizer="adamw", batch_size=16, steps=80, length=24, bucketed=True, warmup=0.1)
PLAN = Plan(
    model="minilm",
    method="ptuning2:length=4",
    heads="probe",
    recipe=RECIPE,
    pair_length=32,
    probe_steps=10,
    probe_lr=0.01,
    lr=0.1,
    artifacts=STORE / ARTIFACTS,
)
LORA = dataclasses.replace(PLAN, method="lora:rank=1", lr=1e-3)
PLANS = {"prompt": PLAN, "lora": LORA}
TUNING_RATES = {"prompt": (0.05, 0.1, 0.2, 0.4), "lora": (3e-4, 1e-3, 3e-3)}
CONVERGED = 120  # steps of a probe to compare with
ROUNDS, FINDING_RATE = 100, 3e-4  # of the auto-encoder: turns of every task, learning rate
DIMS = (1, 3, 5, 10, 50, 100, 250)
FEWER = (1, 10, 50, 250)
DECODED = (0.1, 0.3, 1.0)  # unit steps are deviations over the tasks
RANDOM = (1.0, 4.0, 16.0)  # unit steps are of the parameters


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """A kind of subspace.

    Args:
        plan: of the tunings that it is learned from or takes the place of.
        kind: of the decoder, or of a random projection: ``random`` of the method's numbers, ``weights`` of the body.
        dims: numbers a task.
        rates: to choose c from.
    """

    plan: str = "prompt"
    kind: str
    dims: tuple[int, ...]
    rates: tuple[float, ...]

    @property
    def found(self) -> bool:
        """Whether the subspace is learned."""
        return self.kind in ("linear", "mlp", "pca")

    @property
    def judged(self) -> int:
        """The d at which the rate is chosen."""
        return min(self.dims, key=lambda d: abs(d - 10))


STAGES = {
    "mlp": Stage(kind="mlp", dims=DIMS, rates=DECODED),
    "random": Stage(kind="random", dims=FEWER, rates=(*RANDOM, 64.0)),
    "linear": Stage(kind="linear", dims=DIMS, rates=DECODED),
    "pca": Stage(kind="pca", dims=(1, 5, 9), rates=DECODED),
    "weights": Stage(kind="weights", dims=(10, 250), rates=RANDOM),
    "lora": Stage(plan="lora", kind="mlp", dims=(5, 50), rates=DECODED),
    "lora random": Stage(plan="lora", kind="random", dims=(5, 50), rates=(0.15, 0.6, 2.4)),
}


def loaded(name: str) -> Task:
    """Return a task with few rows to score."""
    return tasks.load(f"few:{ROWS}:{name}")


def decoder(plan: str, kind: str, d: int) -> Path:
    """Return the file of a decoder."""
    return DECODERS / f"{plan}-{kind}-{d}.safetensors"


def specs(stage: Stage, plan: Plan, d: int, c: float, names: Sequence[str]) -> list[RunSpec]:
    """Return the trainings in d numbers."""
    lr, chosen = c / d**0.5, map(loaded, names)
    if stage.kind == "weights":
        return [plan.over_weights(task, "fastfood", d, lr) for task in chosen]
    projection = resolve(f"decoder:{decoder(stage.plan, stage.kind, d)}") if stage.found else "hadamard"
    return [plan.inside(task, projection, d, lr) for task in chosen]


def best_rate(work: Workshop, label: str, by_rate: Mapping[float, Sequence[RunSpec]]) -> float:
    """Return the rate that is best by the mean score of the selection splits."""
    every = [spec for group in by_rate.values() for spec in group]
    chosen = dict(zip([s.key for s in every], work.results(label, every), strict=True))
    means = {rate: sum(chosen[s.key].selection_score for s in group) for rate, group in by_rate.items()}
    return max(means, key=lambda rate: means[rate])


def tune(work: Workshop, name: str, report: Report) -> Plan:
    """Make the heads; choose the rate of the tuning, tune all tasks, and return the plan with it."""
    plan, chosen = PLANS[name], [loaded(task) for task in (*SEEN, *UNSEEN)]
    work.results(f"{name}: heads", [plan.probe(task) for task in chosen], plan.keep_heads)
    judges = [loaded(judge) for judge in JUDGES]
    plans = {lr: dataclasses.replace(plan, lr=lr) for lr in TUNING_RATES[name]}
    lr = best_rate(work, f"{name}: rate", {lr: [p.tuning(t) for t in judges] for lr, p in plans.items()})
    report.content["rates"][name] = lr
    starts, tuned = started_and_tuned(work, plans[lr], chosen)
    for task, head, score in zip(chosen, starts, tuned, strict=True):
        bare = task.name.rpartition(":")[2]
        row = {"metric": task.metric, "seen": bare in SEEN, "chance": task.chance, "start": head, name: score}
        report.content["tasks"][bare] = report.content["tasks"].get(bare, {}) | row
    report.save()
    return plans[lr]


def beside(work: Workshop, report: Report) -> None:
    """Train a linear probe of every task until it has converged, and tune every task in full."""
    chosen = {name: loaded(name) for name in (*SEEN, *UNSEEN)}
    converged = dataclasses.replace(PLAN, probe_steps=CONVERGED)
    for kind, spec_of in (("probe", converged.probe), ("full", PLAN.full)):
        scores = work.scores(kind, [spec_of(task) for task in chosen.values()])
        for name, score in zip(chosen, scores, strict=True):
            report.content["tasks"][name][kind] = score
    report.save()


def find(name: str, lr: float, kind: str, dims: Sequence[int]) -> None:
    """Learn the decoders of some d in this process."""
    losses = TaskLosses(dataclasses.replace(PLANS[name], lr=lr), [loaded(task) for task in SEEN])
    for d in dims:
        learned(losses, Finding(kind=kind, d=d, rounds=ROUNDS, lr=FINDING_RATE), decoder(name, kind, d))  # type: ignore[arg-type]


def find_all(stage: Stage, lr: float, workers: int) -> None:
    """Learn all decoders of a stage, each in one of as many processes as there are workers."""
    DECODERS.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "experiments.ipt", "--find", stage.plan, str(lr), stage.kind]
    shares = [[str(d) for d in stage.dims[::-1][k::workers]] for k in range(workers)]
    running = [subprocess.Popen([*command, *share]) for share in shares if share]
    codes = [process.wait() for process in running]
    if any(codes):
        raise RequestError(f"every decoder must be found; received a failure at {stage.kind}, see above")


def carry_out(work: Workshop, label: str, plans: dict[str, Plan], report: Report) -> None:
    """Find the subspaces of a stage, choose its rate, and train inside."""
    stage, content = STAGES[label], report.content
    if stage.plan not in plans:
        plans[stage.plan] = tune(work, stage.plan, report)
    plan = plans[stage.plan]
    if stage.found:
        find_all(stage, plan.lr, work.workers)
        files = {d: open_decoder(decoder(stage.plan, stage.kind, d)).learned for d in stage.dims}
        about = ("errors", "task_losses", "finding")
        content["decoders"][label] = {str(d): {name: file[name] for name in about} for d, file in files.items()}
    judges = {c: specs(stage, plan, stage.judged, c, JUDGES) for c in stage.rates}
    c = content["rates"][label] = best_rate(work, f"{label}: rate", judges)
    names = (*SEEN, *UNSEEN)
    content["inside"][label] = {}
    for d in stage.dims:
        scores = work.scores(f"{label}: d = {d}", specs(stage, plan, d, c, names))
        content["inside"][label][str(d)] = dict(zip(names, scores, strict=True))
        report.save()


def about() -> dict[str, Any]:
    """Return what the report says of the experiment."""
    seen, unseen = ([loaded(name) for name in names] for names in (SEEN, UNSEEN))
    check_unseen(unseen, seen)
    pairs = {f"{a.name}, {b.name}": shared_rows(a, b).count for a in unseen for b in seen}
    plans = {
        name: {"method": plan.method, "D": sum(t.numel() for t in start(plan, seen[0]).values())}
        for name, plan in PLANS.items()
    }
    return {
        "command": "python -m experiments.ipt",
        "model": PLAN.model,
        "plans": plans,
        "recipe": dataclasses.asdict(RECIPE),
        "pair_length": PLAN.pair_length,
        "rows scored": ROWS,
        "shared rows": {pair: count for pair, count in pairs.items() if count},
        "versions": versions(),
    }


def main() -> None:
    """Carry out the experiment, or learn decoders for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument(
        "--until", choices=("tuned", *STAGES), default="lora random", help="the last stage to carry out"
    )
    parser.add_argument("--find", nargs="+", metavar="WORD", help="plan, its rate, kind and dimensions of decoders")
    arguments = parser.parse_args()
    os.nice(arguments.nice)
    if arguments.find:
        name, lr, kind, *dims = arguments.find
        find(name, float(lr), kind, [int(d) for d in dims])
        return
    report, stages = Report(), list(STAGES)
    with Store(STORE) as store:
        work = Workshop(store=store, workers=arguments.workers)
        plans = {"prompt": tune(work, "prompt", report)}
        report.content["about"] = about()
        beside(work, report)
        for label in stages[: stages.index(arguments.until) + 1] if arguments.until in STAGES else ():
            carry_out(work, label, plans, report)


if __name__ == "__main__":
    main()
