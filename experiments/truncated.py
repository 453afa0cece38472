"""Does the network need the rank that its change has? Keeps only the leading directions and scores it again.

    python -m experiments.truncated         # after: python -m experiments.spectra train

The change of every weight matrix in the body is replaced by its best approximation of rank r (C. Eckart and
G. Young, 1936), or by what is left without it; embeddings, vectors and the head stay as tuned. Nothing is
trained. Scores go to ``experiments/results/spectra/truncated.json``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from experiments.spectra import RESULTS, TEXTS, WEIGHTS, arms
from experiments.spectra_table import is_inner
from idim.files import write_json
from idim.runs import Keep, RunSpec
from idim.runs.artifacts import BASE, TUNED
from idim.runs.learner import network
from idim.runs.rows import rows_of
from idim.runs.train import alone, load_task, score

RANKS = (0, 1, 2, 4, 8, 16, 64)
WITHOUT = (8, 64)
FILE = RESULTS / "truncated.json"


def truncated(base: Tensor, tuned: Tensor, rank: int, *, kept: bool) -> Tensor:
    """Return base plus the best approximation of rank ``rank`` to the change, or base plus the rest of it."""
    left, values, right = torch.linalg.svd((tuned - base).double(), full_matrices=False)
    part = slice(0, rank) if kept else slice(rank, None)
    return (base.double() + (left[:, part] * values[part]) @ right[part]).to(base.dtype)


def scores(spec: RunSpec, weights: Path) -> dict[str, float]:
    """Return the score of a run's network as tuned, at each rank kept, and at each rank taken away."""
    folder, task = Keep(folder=weights / "runs").path(spec), load_task(spec, None)
    base, tuned = load_file(folder / BASE), load_file(folder / TUNED)
    found = {}
    with alone(spec.seed):
        module, rows = network(spec, task, None), rows_of(spec, task.report)

        def at(tensors: Mapping[str, Tensor]) -> float:
            named = {name if name.startswith("head.") else f"body.{name}": t for name, t in tensors.items()}
            module.load_state_dict(named, strict=False)
            return score(spec, task, module, rows)

        found["tuned"] = at(tuned)
        for kept, ranks in ((True, RANKS), (False, WITHOUT)):
            for rank in ranks:
                found[f"{'rank' if kept else 'without'} {rank}"] = at(_changed(base, tuned, rank, kept))
    return found


def _changed(base: Mapping[str, Tensor], tuned: Mapping[str, Tensor], rank: int, kept: bool) -> dict[str, Tensor]:
    return {n: truncated(base[n], t, rank, kept=kept) if _is_matrix(n, t) else t for n, t in tuned.items()}


def _is_matrix(name: str, tensor: Tensor) -> bool:
    return tensor.ndim == 2 and is_inner({"name": name, "matrix": tuple(tensor.shape)})


def main() -> None:
    """Score every fully tuned text model, and write the scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder for tensors")
    weights = parser.parse_args().weights
    found: dict[str, Any] = json.loads(FILE.read_text()) if FILE.is_file() else {}
    for arm in arms():
        if arm.spec.method == "full" and arm.spec.task in TEXTS and arm.label not in found:
            found[arm.label] = {"key": arm.spec.key, "scores": scores(arm.spec, weights)}
            write_json(FILE, found)
            print(arm.label, found[arm.label]["scores"], flush=True)


if __name__ == "__main__":
    main()
