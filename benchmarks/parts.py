"""The parts of ``python -m benchmarks``: what each measures, how it is run, in full or quickly, and its rows.

A part is imported when it is run, so that ``--help`` waits for nothing.
"""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks import rows

KINDS = ["hadamard", "fastfood", "uniform", "sparse", "kronecker"]
Report = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line asks of every part: a peer's checkout, and whether to take small sizes."""

    peer: Path | None = None
    quick: bool = False


@dataclass(frozen=True, kw_only=True)
class Part:
    """One benchmark: the module in this folder, a line on it, how to run that module, and the rows of its report."""

    module: str
    about: str
    run: Callable[[ModuleType, Options], Report]
    rows: Callable[[Report], list[tuple[str, str]]]

    def measure(self, options: Options) -> Report:
        """Return the part's report."""
        return self.run(importlib.import_module(f"benchmarks.{self.module}"), options)


def _projections(module: ModuleType, options: Options) -> Report:
    return module.run(KINDS, repeats=3 if options.quick else 15, peer=options.peer)


def _step(module: ModuleType, options: Options) -> Report:
    import torch

    return module.run(threads=[1] if options.quick else sorted({1, torch.get_num_threads()}))


def _scale(module: ModuleType, options: Options) -> Report:
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        return module.run(2 if options.quick else 22, 0.01, 0, 1 if options.quick else 3, Path(folder))


def _basis(module: ModuleType, options: Options) -> Report:
    folder = os.environ.get("TMPDIR")
    sizes, repeats = (module.QUICK, 3) if options.quick else (module.SIZES, 7)
    return module.run(sizes, repeats, None if folder is None else Path(folder))


PARTS = {
    "projections": Part(
        module="projection_speed",
        about="P z and its adjoint beside torch.add and a peer, and their memory",
        run=_projections,
        rows=rows.projections,
    ),
    "step": Part(
        module="training_step",
        about="a training step in a subspace beside full AdamW, LoRA and QLoRA, and peak memory",
        run=_step,
        rows=rows.step,
    ),
    "basis": Part(
        module="basis",
        about="a step in stored columns beside one pass over them; building them out of core; 13 GB of disk",
        run=_basis,
        rows=rows.basis,
    ),
    "coverage": Part(
        module="estimator_coverage",
        about="how often the 95 % interval holds the true d_int, on simulated curves",
        run=lambda module, options: module.run(12 if options.quick else 500),
        rows=rows.coverage,
    ),
    "spectrum_planted": Part(
        module="spectrum_planted",
        about="what the rank report says of changes of known rank, and of independent entries",
        run=lambda module, options: module.run(*((20, 1) if options.quick else (500, 3))),
        rows=rows.spectrum_planted,
    ),
    "spectrum_scale": Part(
        module="spectrum_scale",
        about="the rank report of 1.1 billion parameters beside reading them; 4.4 GB of disk",
        run=_scale,
        rows=rows.spectrum_scale,
    ),
    "spectrum_speed": Part(
        module="spectrum_speed",
        about="the rank report of a MiniLM pair beside plain loops and WeightWatcher",
        run=lambda module, options: module.run(1 if options.quick else 5),
        rows=rows.spectrum_speed,
    ),
    "sweep_overhead": Part(
        module="sweep_overhead",
        about="what engine and store cost a run, and two workers beside one",
        run=lambda module, options: module.run(*((40, 1) if options.quick else (1000, 3))),
        rows=rows.sweep_overhead,
    ),
    "store_growth": Part(
        module="store_growth",
        about="status and a figure's query on a store of 100,000 runs",
        run=lambda module, options: module.run(*((2000, 1) if options.quick else (100_000, 5))),
        rows=rows.store_growth,
    ),
}
