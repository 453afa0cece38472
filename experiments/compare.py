"""Every kind of subspace at equal d on MNIST, and on tasks it was not found for.

    python -m experiments.compare                # 15 minutes of one core; 400 MB in idim-out/compare

784-200-200-10, 200 steps, on 7,500 images of MNIST. Subspaces are random (Hadamard, SAID, burn-in), found from the
full training of seed 0 (trajectory, lottery), from its start (Hessian, gradients), or from five other tasks of which
each has rows of its own: mirrored, upside-down and transposed images, negatives, and labels in another order. Two
further tasks, again of other rows, are unseen: more of the same images, and images turned by a quarter.
Writes ``experiments/results/compare/report.json`` and ``compare.png``. What is finished is not trained again.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from experiments.small_mnist import write
from idim.comparison.compare import run_compare
from idim.comparison.request import CompareRequest
from idim.runs.engines import EngineName
from idim.tasks import idx
from idim.tasks.folder import dataset
from idim.tasks.images import PREFIXES, find

OUT = Path(__file__).parent / "results" / "compare"
WORK = Path("idim-out") / "compare"
MODEL, STEPS, DIMS = "mlp:200,200", 200, "5,10,20,40,100"
KINDS = "hadamard,said,burn-in,lottery,trajectory,hessian,gradients,deltas"
ROWS = {"train": 7500, "test": 1250}  # of every task; eight tasks share out 60,000 and 10,000
TASK, UNSEEN = "images", ("more", "turned")
LEARNED_FROM = ("mirrored", "upside-down", "transposed", "negative", "relabelled")
Change = Callable[[idx.Array], idx.Array]
IMAGES: dict[str, Change] = {
    "mirrored": lambda images: images[:, :, ::-1],
    "upside-down": lambda images: images[:, ::-1],
    "transposed": lambda images: images.swapaxes(1, 2),
    "negative": lambda images: 255 - images,
    "turned": lambda images: np.rot90(images, axes=(1, 2)),
}
LABELS: dict[str, Change] = {"relabelled": lambda labels: (labels + 3) % 10}


def write_tasks(folder: Path) -> dict[str, str]:
    """Write idx files of every task, each of rows of its own; return the names of the tasks."""
    source = dataset("mnist", None)
    for split, rows in ROWS.items():
        for kind, changes in (("images", IMAGES), ("labels", LABELS)):
            values = idx.read(find(source, split, kind))
            for number, name in enumerate((TASK, *UNSEEN, *LEARNED_FROM)):
                (folder / name).mkdir(parents=True, exist_ok=True)
                part = changes.get(name, np.asarray)(values[rows * number : rows * (number + 1)])
                write(folder / name / f"{PREFIXES[split][0]}-{kind}", np.ascontiguousarray(part))
    return {name: f"idx:{folder / name}" for name in (TASK, *UNSEEN, *LEARNED_FROM)}


def main() -> None:
    """Carry out the comparison and write its report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=WORK, help="folder for tasks, runs, checkpoints and bases")
    parser.add_argument("--engine", choices=("processes", "serial"), default="processes")
    parser.add_argument("--workers", type=int, help="worker processes; one for each core unless given")
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument("--trial", action="store_true", help="a few steps of everything, to see that it works")
    arguments = parser.parse_args()
    os.nice(arguments.nice)
    engine: EngineName = arguments.engine
    names = write_tasks(arguments.work / "tasks")
    request = CompareRequest(
        task=names[TASK],
        model=MODEL,
        kinds=KINDS,
        dims="5,40" if arguments.trial else DIMS,
        learn_from=",".join(names[name] for name in LEARNED_FROM),
        unseen=",".join(names[name] for name in UNSEEN),
        bar="0.9",
        seeds=1 if arguments.trial else 2,
        reference_seeds=1 if arguments.trial else 3,
        steps=20 if arguments.trial else STEPS,
        rows=100 if arguments.trial else 500,
        products=150 if arguments.trial else 400,
        engine=engine,
        workers=arguments.workers if engine == "processes" else None,
        out=arguments.work,
        store=arguments.work / "store",
    )
    report = run_compare(request)
    report.save(arguments.work if arguments.trial else OUT)
    print(report)


if __name__ == "__main__":
    main()
