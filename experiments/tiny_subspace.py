"""Does descent happen in the top space of the Hessian? Gur-Ari, Roberts and Dyer 2018, arXiv:1812.04754, on MNIST.

    python -m experiments.tiny_subspace          # two core minutes

Trains 784-200-200-10 on the first 2,000 rows by momentum SGD, three seeds, and looks at a few moments of each
training at the ten eigenvectors of the Hessian of the whole training loss that are largest in magnitude: how much lies
in their space of the gradient, of the way from the start, of the way to the next moment, and of the same space at the
next moment. A random direction has k / D of its squared norm there. The measures are in :mod:`idim.learned.overlap`.
The answer goes to ``experiments/results/tiny_subspace.json``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from idim import models, tasks
from idim.files import write_json
from idim.learned.curvature import Hessian
from idim.learned.moments import Moment, moment
from idim.learned.objective import Objective
from idim.learned.overlap import chance, overlap
from idim.parameters import Layout
from idim.runs import RunSpec
from idim.runs.environment import versions
from idim.runs.rows import rows_of
from idim.runs.train import alone, fit, score
from idim.tasks import Recipe, Split, Task

FILE = Path(__file__).resolve().parent / "results" / "tiny_subspace.json"
ROWS, K, SEEDS = 2000, 10, 3
STEPS = (0, 10, 30, 100, 200, 400, 800)
RECIPE = Recipe(optimizer="sgd", schedule="constant", batch_size=50, steps=STEPS[-1])
LR = 0.01


def small_task() -> Task:
    """Return MNIST with its first rows to train on."""
    task = tasks.load("mnist")
    first: Tensor = task.train.inputs[:ROWS]  # type: ignore[assignment, index]
    return dataclasses.replace(task, train=Split(inputs=first, targets=task.train.targets[:ROWS]))


def spec_of(task: Task, seed: int) -> RunSpec:
    """Return the training of one seed."""
    return RunSpec(
        task="mnist", fingerprint=task.fingerprint, model="mlp:200,200", method="full", lr=LR, recipe=RECIPE, seed=seed
    )


def network(task: Task, seed: int) -> nn.Module:
    """Return the network at its initial parameters."""
    return models.build(spec_of(task, seed).model, input_shape=task.input_shape, outputs=task.outputs, seed=seed)


def look(task: Task, model: nn.Module, step: int) -> Moment:
    """Return what there is to see at a step of the training."""
    rows: Any = task.train
    return moment(step, Hessian(Objective(model, task.loss, rows.inputs, rows.targets)), k=K)


def followed(task: Task, seed: int) -> dict[str, Any]:
    """Train one seed, and return its moments and the score that it ends with."""
    spec = spec_of(task, seed)
    with alone(seed):
        model = network(task, seed)
        moments = [look(task, model, 0)]

        def after_step(step: int) -> None:
            if step in STEPS:
                moments.append(look(task, model, step))

        fit(spec, task, model, after_step=after_step)
        return {"moments": table(moments), "score": score(spec, task, model, rows_of(spec, task.report))}


def table(moments: list[Moment]) -> list[dict[str, Any]]:
    """Return moments as plain data, each with the way that was come and the way to the next."""
    rows = []
    for here, after in zip(moments, [*moments[1:], None], strict=True):
        behind = {"come": overlap(here.pairs.vectors, here.theta - moments[0].theta)} if here.step else {}
        ahead = {"moved": here.moved(after), "kept": here.kept(after)} if after else {}
        rows.append(
            {
                "step": here.step,
                "loss": here.loss,
                "gradient": here.gradient,
                **behind,
                **ahead,
                "values": here.pairs.values.tolist(),
                "largest_residual": float(here.pairs.residuals.max()),
                "converged": here.pairs.converged,
                "products": here.pairs.products,
            }
        )
    return rows


def main() -> None:
    """Follow every seed, and write and print what was seen."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    task, started = small_task(), time.process_time()
    seeds = {str(seed): followed(task, seed) for seed in range(SEEDS)}
    D = Layout.of(network(task, 0)).D
    content = {
        "command": "python -m experiments.tiny_subspace",
        "spec": spec_of(task, 0).to_json() | {"seed": list(range(SEEDS))},
        "rows": ROWS,
        "k": K,
        "D": D,
        "chance": dataclasses.asdict(chance(K, D)),
        "seeds": seeds,
        "core_seconds": round(time.process_time() - started),
        "versions": versions(),
    }
    write_json(FILE, content)
    for seed, found in seeds.items():
        print(f"seed {seed}: score {found['score']:.4f}")
        for row in found["moments"]:
            print(json.dumps({name: value for name, value in row.items() if name != "values"}))


if __name__ == "__main__":
    main()
