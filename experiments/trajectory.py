"""Do forty directions of one training hold all that it needs? DLDR on 784-200-200-10 and MNIST.

    python -m experiments.trajectory --work FOLDER          # ten minutes of one core; 250 MB in FOLDER

T. Li et al., Low Dimensional Trajectory Hypothesis is True, 2021, arXiv:2103.11154: the principal components of the
checkpoints of a training span a subspace in which training again, from the same initial parameters, is as good. A
network is trained in full, its 50 checkpoints give bases of 40 columns (of the whole; of the start, the lottery
subspace of Larsen et al. 2021, arXiv:2107.05802; 13 of each of the three layers), and the same network trains again
inside them, with Adam at the best of three rates on the selection split, for one seed with L-BFGS too, beside a
random subspace, and beside random ones around checkpoints of the full training (burn-in).
Writes ``experiments/results/trajectory/mnist_fc.json``; the bases are not kept.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from idim import models, tasks
from idim.files import write_json
from idim.learned.learning import learn_trajectory, training
from idim.learned.request import TrajectoryRequest
from idim.projections import resolve
from idim.runs import Engine, Outcome, RunSpec, Serial, Store
from idim.runs.artifacts import step_name
from idim.runs.store import ARTIFACTS
from idim.tasks import Recipe

RESULT = Path(__file__).parent / "results" / "trajectory" / "mnist_fc.json"
TASK, MODEL, FULL_LR = "mnist", "mlp:200,200", 2e-3  # the rate is what experiments/li_baseline.yaml found
POINTS, COLUMNS, PER_LAYER = 50, 40, 13
DIMS = (1, 2, 5, 10, 20, 40)
RANDOM = (5, 40)
BURN_IN = (30, 150)  # of 1,500 steps of full training
STEPS = 500
RATES = (0.1, 0.3, 1.0)
QUASI_NEWTON = 25  # iterations over all rows
BASES: dict[str, dict[str, Any]] = {
    "trajectory": {"columns": COLUMNS},
    "lottery": {"columns": COLUMNS, "centre": "start"},
    "trajectory by layer": {"columns": PER_LAYER, "by_layer": True},
}


def inside(full: RunSpec, projection: str, d: int, recipe: Recipe, lr: float) -> RunSpec:
    """Return the training of the same network in a subspace."""
    return dataclasses.replace(full, method="subspace", projection=projection, d=d, recipe=recipe, lr=lr)


def best(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """Return the run that is best on the selection split, as a row."""
    found = [o for o in outcomes if o.result is not None]
    chosen = max(found, key=lambda o: o.result.selection_score if o.result else 0.0)
    assert chosen.result is not None
    return {"d": chosen.spec.d, "lr": chosen.spec.lr, "score": chosen.result.score, "seconds": chosen.result.seconds}


def first_order(engine: Engine, full: RunSpec, projection: str, dims: Sequence[int]) -> list[dict[str, Any]]:
    """Return the best Adam run at every d."""
    recipe = dataclasses.replace(full.recipe, steps=STEPS)
    return [best(engine.map([inside(full, projection, d, recipe, lr) for lr in RATES]).values()) for d in dims]


def quasi_newton(engine: Engine, full: RunSpec, projection: str, d: int) -> dict[str, Any]:
    """Return the L-BFGS run."""
    recipe = dataclasses.replace(full.recipe, optimizer="lbfgs", batch_size=0, steps=QUASI_NEWTON)
    return best(engine.map([inside(full, projection, d, recipe, 1.0)]).values())


def burnt_in(engine: Engine, full: RunSpec, artifacts: Path) -> list[dict[str, Any]]:
    """Return, for some checkpoints, their score, and that of the best run in a random subspace around each."""
    rows = []
    for step in BURN_IN:
        model = models.resolve(f"start:{artifacts / full.key / step_name(step)}:{MODEL}")
        started = dataclasses.replace(full, model=model)
        alone = best(engine.map([dataclasses.replace(started, method="untuned")]).values())
        rows.append(
            {"step": step, "checkpoint": alone["score"]} | first_order(engine, started, "hadamard", (COLUMNS,))[0]
        )
    return rows


def experiment(work: Path, seed: int) -> dict[str, Any]:
    """Train in full, learn the bases, train inside; return the scores."""
    rows: dict[str, Any] = {}
    for label, options in BASES.items():
        out = work / f"{label.replace(' ', '-')}-{seed}.safetensors"
        request = TrajectoryRequest(
            task=TASK, model=MODEL, lr=FULL_LR, seed=seed, points=POINTS, out=out, store=work / "store", **options
        )
        built, name, full = learn_trajectory(request), resolve(f"basis:{out}"), training(request)
        dims = DIMS if label == "trajectory" else (built.columns,)
        with Store(work / "store") as store, Serial(store) as engine:
            rows[label] = {"share": built.share, "adam": first_order(engine, full, name, dims)}
            if label == "trajectory" and not seed:
                rows[label]["lbfgs"] = quasi_newton(engine, full, name, built.columns)
        print(f"seed {seed}, {label}: {rows[label]}", flush=True)
    with Store(work / "store") as store, Serial(store) as engine:
        rows["random"] = {"adam": first_order(engine, full, "hadamard", RANDOM)}
        rows["burn-in"] = burnt_in(engine, full, store.path / ARTIFACTS)
        rows["full"] = best(engine.map([full]).values())
    print(f"seed {seed}, the rest: {rows['random']}, {rows['burn-in']}, {rows['full']}", flush=True)
    return rows


def main() -> None:
    """Carry out the experiment and write its result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for runs and bases")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--nice", type=int, default=0)
    arguments = parser.parse_args()
    os.nice(arguments.nice)
    arguments.work.mkdir(parents=True, exist_ok=True)
    seeds = {str(seed): experiment(arguments.work, seed) for seed in range(arguments.seeds)}
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    about = {"task": TASK, "model": MODEL, "D": 199_210, "points": POINTS, "steps inside": STEPS, "rates": RATES}
    about |= {"quasi-newton iterations": QUASI_NEWTON, "fingerprint": tasks.load(TASK).fingerprint}
    write_json(RESULT, {"about": about, "seeds": seeds})


if __name__ == "__main__":
    main()
