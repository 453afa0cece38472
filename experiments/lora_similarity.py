"""Do LoRA updates of different rank and seed share directions? Figures 3, 4 and table 7 of the LoRA paper, on MiniLM.

    python -m experiments.lora_similarity           # after: python -m experiments.spectra train

E. Hu et al., LoRA, 2021, arXiv:2106.09685, sections 7.2 and 7.3. The twins of rank 8 are those of
``experiments.spectra``; this trains twins of rank 64 with the same rows and order. For the queries and the values of
all six layers it writes to ``experiments/results/spectra/similarity.json``

- φ(i, j), mean over the layers, of rank 8 against rank 64 and of two seeds of rank 64, for left directions (where an
  update writes to) and right ones (where it reads from: the paper's), with what random spaces share;
- the amplification factor in each layer.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean
from typing import Any

from experiments.lora_twin import RANK, lora_twin
from experiments.spectra import RESULTS, WEIGHTS, arms
from idim.files import write_json
from idim.runs import Keep
from idim.runs.artifacts import BASE
from idim.spectral.comparison.amplification import Amplification
from idim.spectral.comparison.records import Alignment, PairComparison
from idim.spectral.comparison.versus import compare_pair
from idim.spectral.pairing.pairs import Pairs, open_pairs

TASK, WIDE = "trec", 64
MODULES = ("query", "value")
PLACES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""The i and j at which φ is written down."""
AMPLIFIED = (4, 8, 64)


def twins(weights: Path) -> tuple[Path, dict[tuple[int, int], Path]]:
    """Return the base and the adapters by rank and seed, training those of the higher rank that are missing."""
    specs = {arm.spec.seed: arm.spec for arm in arms() if arm.spec.task == TASK and arm.spec.method == "full"}
    found = {}
    for seed, spec in specs.items():
        for rank in (RANK, WIDE):
            folder = weights / ("lora" if rank == RANK else f"lora{rank}") / spec.key
            row = lora_twin(spec, folder, rank=rank)
            print(f"{TASK}: LoRA of rank {rank}, seed {seed}: {row['score']:.4f}", flush=True)
            found[rank, seed] = folder / "adapter"
    return Keep(folder=weights / "runs").path(specs[0]) / BASE, found


def compared(one: Pairs, other: Pairs, module: str) -> list[PairComparison]:
    """Return the comparisons of one kind of module, layer by layer."""
    names = [name for name in one.names if f".{module}." in name]
    return [compare_pair(one.load(name), other.load(name), k=WIDE) for name in names]


def similarity(found: list[PairComparison]) -> dict[str, Any]:
    """Return φ at some i and j, mean over the layers, on both sides, beside what random spaces of each size share."""
    sides = {
        "left": [c.between.left for c in found if c.between.left],
        "right": [c.between.right for c in found if c.between.right],
    }
    return {side: _table(layers) for side, layers in sides.items()} | {"layers": len(found)}


def _table(layers: list[Alignment]) -> dict[str, Any]:
    first = layers[0]
    rows, columns = ([p for p in PLACES if p <= n] for n in (len(first.similarity), len(first.similarity[0])))
    phi = [[round(fmean(layer.phi(i, j) for layer in layers), 4) for j in columns] for i in rows]
    chance = [[round(max(i, j) / first.dimension, 4) for j in columns] for i in rows]
    return {"i": rows, "j": columns, "phi": phi, "random": chance}


def amplified(found: list[PairComparison]) -> dict[str, list[Any]]:
    """Return, by number of directions, the norms and the factor of the first update in each layer."""
    each = [c.base_a.amplification for c in found if c.base_a and c.base_a.amplification]
    return {str(r): [_factor(a, r) for a in each] for r in AMPLIFIED if all(r <= len(a.on_update) for a in each)}


def _factor(a: Amplification, r: int) -> dict[str, float | None]:
    place = r - 1
    norms = {"update_norm": a.update_norm, "base_norm": a.base_norm, "on_update": a.on_update[place]}
    return norms | {"on_own": a.on_own[place], "on_random": a.on_random[place], "factor": a.factor(r)}


def main() -> None:
    """Compare the twins, and write what they share."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder for tensors")
    base, adapters = twins(parser.parse_args().weights)
    opened = {key: open_pairs(base, adapter) for key, adapter in adapters.items()}
    pairs = {"ranks": ((RANK, 0), (WIDE, 0)), "seeds": ((WIDE, 0), (WIDE, 1))}
    content: dict[str, Any] = {"task": TASK, "ranks": [RANK, WIDE], "similarity": {}, "amplification": {}}
    for label, (one, other) in pairs.items():
        for module in MODULES:
            found = compared(opened[one], opened[other], module)
            content["similarity"].setdefault(label, {})[module] = similarity(found)
            content["amplification"].setdefault(f"rank {one[0]}", {})[module] = amplified(found)
    write_json(RESULTS / "similarity.json", content)


if __name__ == "__main__":
    main()
