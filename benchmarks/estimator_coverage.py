"""How often the 95 % interval holds the true intrinsic dimension, and what it costs.

    python -m benchmarks.estimator_coverage [--simulations 500] [--per-family] [--seeds 3] [--out coverage.json]

Every simulation runs the real sequential search with its defaults to its end on a simulated curve
(:mod:`benchmarks.simulated_curves`). Beside it stand a grid of 20 dimensions x 5 seeds over the whole
range, the same grid over only the factor ten on either side of the true answer (which nobody
knows beforehand), both with the same estimator, and the plain percentile bootstrap over whole seeds on
the runs of the search. Widths are fractions of d_int, medians; the grids and the bootstrap are run
on the first 100 simulations of a family.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.simulated_curves import FAMILIES, World, draw
from idim.dimension.estimate import Estimate, estimate
from idim.dimension.scores import Observations, Scores
from idim.dimension.search import propose

GRID_DIMS, GRID_SEEDS, BESIDE = 20, 5, 100
Record = dict[str, float]


def search(world: World, seeds: int, **options: Any) -> tuple[dict[int, dict[int, float]], str]:
    """Run the sequential search to its end; return the observations and why it stopped."""
    seen: dict[int, dict[int, float]] = {}
    while True:
        proposal = propose(seen, d_max=world.d_max, seeds=seeds, **world.level(), **options)
        if proposal.done:
            return seen, proposal.reason
        for d, seed in proposal.points:
            seen.setdefault(d, {})[seed] = world.run(d, seed)


def grid(world: World, low: float, high: float) -> Observations:
    """Observe a geometric grid."""
    dims = np.unique(np.geomspace(max(low, 1), min(high, world.d_max), GRID_DIMS).round().astype(int))
    return {d: {s: world.run(d, s) for s in range(GRID_SEEDS)} for d in dims.tolist()}


def bootstrap_covers(seen: Observations, world: World, resamples: int = 200) -> bool:
    """Whether the percentile bootstrap over whole seeds, isotonic fit, covers the truth."""
    rng, seeds = np.random.default_rng(0), sorted({s for runs in seen.values() for s in runs})
    threshold, found = world.level()["threshold"], []
    for _ in range(resamples):
        picked = rng.choice(len(seeds), len(seeds))
        drawn = {d: {k: runs[seeds[s]] for k, s in enumerate(picked) if seeds[s] in runs} for d, runs in seen.items()}
        found.append(math.ceil(Scores.of(drawn).crossing(threshold)) if any(drawn.values()) else math.nan)
    low, high = np.nanquantile(found, (0.025, 0.975))
    return bool(low <= world.truth <= high)


def judge(answer: Estimate, world: World, prefix: str = "") -> Record:
    """Say whether an interval covers the truth, how wide it is, and how far off the estimate."""
    off = math.nan if answer.d_int is None else answer.d_int / world.truth - 1
    return {
        f"{prefix}covers": float(answer.lo <= world.truth <= answer.hi),
        f"{prefix}width": answer.width,
        f"{prefix}bias": off,
    }


def simulate(family: str, number: int, seeds: int) -> Record:
    """Return what one simulation shows."""
    world = draw(family, number)
    seen, reason = search(world, seeds)
    start = time.perf_counter()
    record = judge(estimate(seen, **world.level()), world)  # type: ignore[arg-type]
    record |= {"milliseconds": 1e3 * (time.perf_counter() - start), "trainings": sum(map(len, seen.values()))}
    record["narrow"] = float("narrow enough" in reason)
    if number < BESIDE:
        wide, oracle = grid(world, 1, world.d_max), grid(world, world.truth / 10, world.truth * 10)
        record |= judge(estimate(wide, **world.level()), world, "grid_")  # type: ignore[arg-type]
        record |= judge(estimate(oracle, **world.level()), world, "oracle_")  # type: ignore[arg-type]
        record["bootstrap_covers"] = float(bootstrap_covers(seen, world))
    return record


def summary(records: Iterable[Record]) -> Record:
    """Return means of what is counted and medians of widths."""
    rows = list(records)
    keys = rows[0].keys()
    average = {k: np.nanmedian if k.endswith(("width", "milliseconds")) else np.nanmean for k in keys}
    return {"simulations": len(rows)} | {k: float(average[k]([r[k] for r in rows if k in r])) for k in keys}


COLUMNS = {
    "covers": "covers",
    "trainings": "trainings",
    "width": "width",
    "narrow": "<= 25 %",
    "bias": "bias",
    "grid_width": "grid",
    "oracle_width": "oracle",
    "bootstrap_covers": "bootstrap",
    "milliseconds": "ms",
}
FORMATS = {"trainings": "9.1f", "bias": "+9.3f", "milliseconds": "9.1f"}


def line(name: str, row: Record) -> str:
    """Return one row of the table."""
    return f"{name:12s} {row['simulations']:5.0f} " + " ".join(format(row[k], FORMATS.get(k, "9.3f")) for k in COLUMNS)


def study(families: list[str], each: int, seeds: int) -> dict[str, Record]:
    """Simulate each family, print its row as it is ready, and return all rows with the row of all."""
    print(f"{'family':12s} {'sims':>5s} " + " ".join(f"{title:>9s}" for title in COLUMNS.values()))
    everything: list[Record] = []
    table: dict[str, Record] = {}
    for name in families:
        records = [simulate(name, number, seeds) for number in range(each)]
        everything += records
        table[name] = summary(records)
        print(line(name, table[name]), flush=True)
    table["all"] = summary(everything)
    print(line("all", table["all"]))
    return table


def run(simulations: int = 500) -> dict[str, Record]:
    """Return the row of all families together, for three and for five seeds."""
    each = -(-simulations // len(FAMILIES))
    return {f"{seeds} seeds": study(list(FAMILIES), each, seeds)["all"] for seeds in (3, 5)}


def main() -> None:
    """Run the study and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=500, help="in all, spread evenly over the families")
    parser.add_argument("--per-family", action="store_true", help="this many in each family instead")
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    names = args.families.split(",")
    table = study(names, args.simulations if args.per_family else -(-args.simulations // len(names)), args.seeds)
    if args.out:
        args.out.write_text(json.dumps({"seeds": args.seeds, "families": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
