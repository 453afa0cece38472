"""What do finished runs on MNIST prove about rows that nobody has seen, and at which d most?

    python -m experiments.bounds mnist_fc --work FOLDER          # two minutes of one core
    python -m experiments.bounds mnist_lenet --work FOLDER       # ten

After S. Lotfi et al., PAC-Bayes Compression Bounds So Tight That They Can Explain Generalization, 2022,
arXiv:2211.13609: training in a subspace of d dimensions, a few levels for z, an arithmetic code, a bound from the
bits. With few dimensions the network errs on the rows it knows, with many it takes many bits, so the bound is lowest
in between. Rates are those that ``experiments/mnist_fc.yaml`` and ``mnist_lenet.yaml`` found for the same recipe.
Writes ``experiments/results/bounds/NAME/report.json``; FOLDER keeps the networks, and a started run goes on from
there.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
from pathlib import Path
from typing import Any

from idim import tasks
from idim.runs import RunSpec
from idim.theory.bounding import bound_runs
from idim.theory.certificate import Coding
from idim.theory.selection import Chosen

RESULTS = Path(__file__).parent / "results" / "bounds"
CODING = Coding(levels=(5, 7, 11), tune=500)
NETWORKS: dict[str, dict[str, Any]] = {
    "mnist_fc": {"model": "mlp:200,200", "rate": 2.4, "dims": (100, 200, 500, 1000, 2000, 5000)},
    "mnist_lenet": {"model": "lenet", "rate": 4.8, "dims": (100, 200, 500, 1000, 2000)},
}
CHOICE = math.log2(len(NETWORKS))  # bits: which of the two networks it is


def runs(name: str, **changes: object) -> list[Chosen]:
    """Return the runs of a network, one for each d; ``changes`` are of the recipe."""
    task, network = tasks.load("mnist"), NETWORKS[name]
    recipe = dataclasses.replace(task.recipe, **changes)  # type: ignore[arg-type]
    return [
        Chosen(
            spec=RunSpec(
                task=task.name,
                fingerprint=task.fingerprint,
                model=network["model"],
                method="subspace",
                projection="hadamard",
                d=d,
                lr=network["rate"] / math.sqrt(d),
                recipe=recipe,
                seed=0,
            ),
            choice=CHOICE,
        )
        for d in network["dims"]
    ]


def main() -> None:
    """Carry out the experiments named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=NETWORKS)
    parser.add_argument("--work", type=Path, required=True, help="folder for trained networks")
    parser.add_argument("--nice", type=int, default=0)
    arguments = parser.parse_args()
    os.nice(arguments.nice)
    for name in arguments.names:
        report = bound_runs(runs(name), CODING, out=arguments.work, quiet=False)
        report.save(RESULTS / name)
        print(f"\n== {name}\n{report}", flush=True)


if __name__ == "__main__":
    main()
