"""What the rank report says of changes whose rank is known: planted ranks, and independent entries of full rank.

    python -m benchmarks.spectrum_planted [--draws 500] [--seeds 3] [--large] [--out planted.json]

*Planted*: W with normal entries of standard deviation 0.02 plus a product of normal factors of relative norm 1e-4,
1e-3 or 1e-2, rounded once to the format; ``--large`` adds 4096 x 4096. *Between*: rank 8 in 16 bits at relative norms
spread evenly (in the logarithm) over the same range, where some of the directions are just above the noise and
some just below. *Independent*: changes with normal, heavy-tailed or half zero entries, shapes and norms drawn at
random; ``low-rank`` is then a false positive.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from idim.files import write_json
from idim.spectral.judgement.judge import MatrixReport, judge
from idim.spectral.pairing.delta import Delta

FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SHAPES = ((512, 768), (384, 384), (1536, 384), (128, 1024), (64, 64), (30, 200), (16, 16))
LEVELS = (1e-4, 1e-3, 1e-2)
RATE = 0.01
Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]

ENTRIES: dict[str, Draw] = {
    "normal": lambda generator, shape: generator.standard_normal(shape),
    "heavy": lambda generator, shape: generator.standard_t(4, shape),
    "half zero": lambda generator, shape: generator.standard_normal(shape) * (generator.random(shape) < 0.5),
}


def stored(base: np.ndarray, change: np.ndarray, relative: float, dtype: torch.dtype, name: str) -> Delta:
    """Return the pair of ``base`` and ``base + change``, scaled to a relative norm, rounded once to a format."""
    before = torch.from_numpy(base).float().to(dtype)
    scaled = torch.from_numpy(change) * (relative * float(before.double().norm()) / np.linalg.norm(change))
    moved = before.double() + scaled
    # the sum is exact to 53 bits; through float32 it would be rounded twice, by a part in 2**16 of the second
    after = moved.float().to(dtype)
    return Delta(name=name, shape=base.shape, matrix=(base.shape[0], base.shape[1]), base=before, tuned=after)


def planted(shape: tuple[int, int], rank: int, relative: float, dtype: torch.dtype, seed: int) -> Delta:
    """Return a pair whose change is a product of normal factors."""
    generator = np.random.default_rng(seed)
    change = generator.standard_normal((shape[0], rank)) @ generator.standard_normal((rank, shape[1]))
    return stored(0.02 * generator.standard_normal(shape), change, relative, dtype, f"rank {rank}")


def independent(seed: int) -> tuple[Delta, str]:
    """Return a pair whose change has independent entries, and what was drawn."""
    generator = np.random.default_rng(seed)
    shape = SHAPES[generator.integers(len(SHAPES))]
    law, name = list(ENTRIES)[generator.integers(len(ENTRIES))], list(FORMATS)[generator.integers(len(FORMATS))]
    relative = 10 ** generator.uniform(-5, 0)
    base = 0.02 * generator.standard_normal(shape)
    return stored(base, ENTRIES[law](generator, shape), relative, FORMATS[name], law), name


def report(delta: Delta) -> tuple[MatrixReport, float]:
    """Judge one pair; return the report and the seconds it took."""
    start = time.perf_counter()
    found = judge(delta, false_positive_rate=RATE)
    assert isinstance(found, MatrixReport)
    return found, time.perf_counter() - start


def planted_rows(seeds: int, *, large: bool) -> Iterator[dict[str, Any]]:
    """Yield one row a case and seed of planted ranks."""
    cases = [((512, 768), rank, level, name) for rank in (1, 8, 64) for level in LEVELS for name in FORMATS]
    cases += [((4096, 4096), rank, 1e-3, "float32") for rank in (1, 8, 64) if large]
    for shape, rank, level, name in cases:
        for seed in range(seeds if shape[0] < 4096 else 1):
            found, seconds = report(planted(shape, rank, level, FORMATS[name], seed))
            row = {"shape": shape, "planted": rank, "relative": level, "dtype": name, "seed": seed}
            yield row | {"verdict": found.verdict, "rank": found.rank, "share": found.noise.share, "seconds": seconds}


def between(draws: int) -> dict[str, Any]:
    """Return how often rank 8 in 16 bits is found, left open, or missed, over relative norms between the levels."""
    counts: Counter[str] = Counter()
    wrong = []
    for seed in range(draws):
        generator = np.random.default_rng([1, seed])
        relative, name = 10 ** generator.uniform(-4, -2), ("bfloat16", "float16")[seed % 2]
        found, _ = report(planted((512, 768), 8, relative, FORMATS[name], 1000 + seed))
        off = None if found.rank is None else abs(found.rank - 8)
        kind = found.verdict if found.verdict != "low-rank" else f"rank off by {off}"
        counts[kind] += 1
        if off or found.verdict == "full-rank":
            wrong.append({"dtype": name, "relative": relative, "rank": found.rank, "share": found.noise.share})
    return {"draws": draws, "found": dict(counts), "wrong": wrong}


def false_positives(draws: int) -> dict[str, Any]:
    """Return the verdicts on changes of independent entries."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in FORMATS}
    wrong = []
    for seed in range(draws):
        delta, name = independent(seed)
        found, _ = report(delta)
        counts[name][found.verdict] += 1
        if found.verdict == "low-rank":
            wrong.append({"seed": seed, "dtype": name, "entries": delta.name, "shape": delta.shape, "why": found.why})
    low = sum(count["low-rank"] for count in counts.values())
    return {"draws": draws, "rate": RATE, "low_rank": low, "verdicts": {k: dict(v) for k, v in counts.items()}} | {
        "wrong": wrong
    }


def run(draws: int = 500, seeds: int = 3, *, large: bool = False) -> dict[str, Any]:
    """Return all three parts."""
    rows = []
    for row in planted_rows(seeds, large=large):
        rows.append(row)
        shape = "x".join(map(str, row["shape"]))
        head = f"{shape:10s} {row['dtype']:9s} rank {row['planted']:2d} at {row['relative']:.0e}: "
        print(f"{head}{row['verdict']} {row['rank']} (noise {row['share']:.2g}, {row['seconds']:.1f} s)", flush=True)
    halfway = between(draws // 5)
    print("between:", halfway["found"], halfway["wrong"], flush=True)
    null = false_positives(draws)
    print(f"independent: {null['low_rank']} of {draws} called low-rank; {null['verdicts']}")
    return {"planted": rows, "between": halfway, "independent": null}


def main() -> None:
    """Run the study and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--large", action="store_true", help="4096 x 4096 too")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found = run(arguments.draws, arguments.seeds, large=arguments.large)
    if arguments.out:
        write_json(arguments.out, found)


if __name__ == "__main__":
    main()
