"""Do forty directions of one fine-tuning hold all that it needs? DLDR on MiniLM and TREC, D = 22.6 million.

    python -m experiments.trajectory_minilm --work FOLDER     # 12 minutes of one core; 6 GB in FOLDER until it ends

T. Li et al., Low Dimensional Trajectory Hypothesis is True, 2021, arXiv:2103.11154. MiniLM is tuned in full on TREC as
in ``text_tasks`` (100 steps, 48 tokens, the fresh last layer trained directly beside it), its 40 checkpoints give a
basis of 40 columns of the whole, and the same network is tuned again inside its first k, from the same initial
parameters, beside a random subspace of 40. One rate for all k, the best of three on the selection split at k = 5: the
directions that matter come first, and the way along them is as long whatever follows them.
Writes ``experiments/results/trajectory/minilm_trec.json``. What is finished is not trained again; checkpoints and
basis are removed at the end.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.trajectory import best, inside
from idim import tasks
from idim.files import write_json
from idim.learned.learning import learn_trajectory, training
from idim.learned.request import TrajectoryRequest
from idim.projections import resolve
from idim.projections.basis_file import open_basis
from idim.runs import Engine, RunSpec, Serial, Store
from idim.runs.store import ARTIFACTS

RESULT = Path(__file__).parent / "results" / "trajectory" / "minilm_trec.json"
TASK, MODEL, FULL_LR = "trec", "minilm", 1e-4
STEPS, LENGTH, POINTS = 100, 48, 40
DIMS = (1, 5, 10, 20, 40)
RATES, PILOT = (0.1, 0.3, 1.0), 5
RANDOM, RANDOM_LR = 40, 4 / 40**0.5  # the rule that experiments/text_rates.yaml found


def asked(work: Path, steps: int, points: int) -> TrajectoryRequest:
    """Return the trajectory that is learned."""
    return TrajectoryRequest(
        task=TASK,
        model=MODEL,
        lr=FULL_LR,
        steps=steps,
        length=LENGTH,
        points=points,
        precision="bfloat16",
        out=work / "trajectory.safetensors",
        store=work / "store",
    )


def tuned_inside(engine: Engine, full: RunSpec, projection: str, dims: Sequence[int]) -> list[dict[str, Any]]:
    """Return a run at every d, at the rate that is best at the pilot d."""
    pilot = min(PILOT, *dims[-1:])
    tried = engine.map([inside(full, projection, pilot, full.recipe, lr) for lr in RATES])
    lr = best(tried.values())["lr"]
    return [best(engine.map([inside(full, projection, d, full.recipe, lr)]).values()) for d in dims]


def experiment(work: Path, steps: int, points: int, dims: Sequence[int]) -> dict[str, Any]:
    """Tune in full, learn the basis, tune inside; return the scores."""
    request = asked(work, steps, points)
    if not request.out.is_file():
        print(learn_trajectory(request), flush=True)
    basis, full = open_basis(request.out), training(request)
    with Store(work / "store") as store, Serial(store) as engine:
        rows: dict[str, Any] = {"full": best(engine.map([full]).values())}
        rows["random"] = [best(engine.map([inside(full, "hadamard", RANDOM, full.recipe, RANDOM_LR)]).values())]
        rows["trajectory"] = tuned_inside(engine, full, resolve(f"basis:{request.out}"), dims)
    values = basis.learned["values"]
    about = {"D": basis.D, "columns": basis.columns, "values": values, "rank": basis.learned["rank"]}
    return {"about": about | {"bytes": request.out.stat().st_size, "cost": basis.learned["cost"]}, **rows}


def main() -> None:
    """Carry out the experiment, write its result, and remove what is large."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for runs, checkpoints and the basis")
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="leave checkpoints and basis")
    parser.add_argument("--trial", action="store_true", help="a few steps of everything, to see that it works")
    arguments = parser.parse_args()
    os.nice(arguments.nice)
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.trial:
        print(experiment(arguments.work, 4, 4, (1, 4)))
        return
    found = experiment(arguments.work, STEPS, POINTS, DIMS)
    shared = {"task": TASK, "model": MODEL, "fingerprint": tasks.load(TASK).fingerprint, "steps": STEPS}
    shared |= {"length": LENGTH, "points": POINTS, "rates": RATES, "pilot d": PILOT, "full lr": FULL_LR, "seed": 0}
    write_json(RESULT, {"about": shared | found.pop("about"), **found})
    for kind, row in found.items():
        print(kind, row)
    if not arguments.keep:
        shutil.rmtree(arguments.work / "store" / ARTIFACTS)
        (arguments.work / "trajectory.safetensors").unlink()


if __name__ == "__main__":
    main()
