"""Bases: a training step beside one pass over the stored columns, and building one out of core.

*Step.* theta0 + P z and Pᵀ g read every stored number once each; a step is both. Beside them, in turn and in the same
process and on as many threads, a plain pass over the same mapped bytes: the largest of them as integers of 16 bits.

*Building.* k checkpoints of D numbers become k columns. Beside it: reading all of them twice, and the two products,
X Xᵀ and Λ^(-1/2) Vᵀ X in float64, over chunks of the size that the builder takes. The peak of resident memory is that
of a process of its own, the interpreter and torch included.

    python -m benchmarks.basis [--work DIR]     # 13 GB of disk at full size
"""

from __future__ import annotations

import argparse
import functools
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.projection_speed import normal, turns
from idim.kernels import threads
from idim.learned.basis_writer import basis_writer
from idim.learned.building import build
from idim.learned.vectors import CHUNK, Vectors, layout_of, open_model
from idim.parameters import Layout
from idim.projections import Basis
from idim.projections.basis_file import open_basis

SIZES = (22_713_986, 64)
QUICK = (1_000_000, 8)
TABLE = 11_720_448  # rows of one tensor, as of MiniLM's embeddings; the rest are matrices of 384 x 1536
MATRIX = 384 * 1536


def shapes(D: int) -> dict[str, tuple[int, ...]]:
    """Return tensors as a network of D parameters might have."""
    table = min(TABLE, D // 2) // 384 * 384
    rest, found = D - table, {"table": (table // 384, 384)}
    while rest:
        size = min(MATRIX, rest)
        found[f"layer.{len(found)}.weight"] = (size // 384, 384) if size % 384 == 0 else (size,)
        rest -= size
    return found


def random_basis(path: Path, D: int, columns: int, precision: str) -> None:
    """Write independent columns of unit norm: what is timed does not depend on their being orthogonal."""
    layout = Layout.of({name: torch.empty(shape, device="meta") for name, shape in shapes(D).items()})
    generator = torch.Generator().manual_seed(0)
    block = [(len(layout.names), range(columns))]
    with basis_writer(path, layout, block, precision=precision, learned={}) as writer:
        for index, size in enumerate(layout.sizes):
            for start in range(0, size, 1 << 20):
                rows = min(1 << 20, size - start)
                writer.write(index, start, torch.randn(columns, rows, generator=generator) * D**-0.5)


def step(path: Path, D: int, columns: int, repeats: int) -> dict[str, Any]:
    """Time both products, and one pass, over the same file."""
    P, pieces = Basis(D=D, d=columns, path=str(path)), open_basis(path).pieces
    z, g, theta0, theta = normal(columns), normal(D), normal(D), torch.empty(D)
    chunks = [part for piece in pieces for part in np.array_split(piece.stored.reshape(-1).view(np.int16), 64)]
    arms = {
        "pass": lambda: threads.run(functools.partial(np.max, part) for part in chunks),
        "matvec": lambda: P.matvec(z, out=theta, base=theta0),
        "rmatvec": lambda: P.rmatvec(g),
        "step": lambda: (P.matvec(z, out=theta, base=theta0), P.rmatvec(g)),
    }
    found = turns(arms, repeats, D)
    for name in ("matvec", "rmatvec", "step"):
        for figure in ("min", "median"):
            found[name][f"{figure} / pass"] = found[name][figure] / found["pass"][figure]
    found["pass"]["GB/s"] = columns * pieces[0].stored.itemsize / found["pass"]["min"]
    return found


def checkpoints(folder: Path, D: int, count: int) -> list[Path]:
    """Write a random walk of independent steps as so many files."""
    theta = {name: torch.zeros(shape) for name, shape in shapes(D).items()}
    files = []
    for k in range(count + 1):
        generator = torch.Generator().manual_seed(k)
        for name, tensor in theta.items():
            theta[name] = tensor + 1e-3 * torch.randn(tensor.shape, generator=generator)
        files.append(folder / f"{k:03d}.safetensors")
        save_file(theta, files[-1])
    return files


def reference(vectors: Vectors) -> dict[str, float]:
    """Return the seconds of reading everything twice, and of the two products."""
    start = time.perf_counter()
    for _ in range(2):
        for model in (*vectors.models, vectors.base):
            for name in vectors.layout.names:
                model.read(name)
    read = time.perf_counter() - start
    k, D = len(vectors), vectors.layout.D
    x = torch.randn(k, CHUNK // k, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gram = torch.zeros(k, k, dtype=torch.float64)
    start = time.perf_counter()
    for first in range(0, D, x.shape[1]):
        part: Tensor = x[:, : min(x.shape[1], D - first)]
        gram.addmm_(part, part.T)
    mixture = gram / gram.norm()
    for first in range(0, D, x.shape[1]):
        mixture @ x[:, : min(x.shape[1], D - first)]
    return {"reading twice": read, "products": time.perf_counter() - start}


def built(files: list[Path], out: Path) -> dict[str, float]:
    """Build in this process; return seconds and peak memory so far."""
    sources = [open_model(file) for file in files]
    vectors = Vectors(sources[1:], base=sources[0], layout=layout_of(sources[0]))
    start = time.perf_counter()
    found = build(vectors, out, learned={})
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"seconds": seconds, "peak GB": peak, "columns": found.columns, "off": found.off} | reference(vectors)


def building(folder: Path, D: int, count: int, repeats: int) -> dict[str, Any]:
    """Return the figures of building from files on disk, each time in a fresh process."""
    files = checkpoints(folder, D, count)  # before anything is mapped that would take their place in memory
    program = [sys.executable, "-m", "benchmarks.basis", "--child", str(folder / "basis"), *map(str, files)]
    figures = [json.loads(subprocess.run(program, check=True, capture_output=True).stdout) for _ in range(repeats)]
    for found in figures:
        found["times"] = found["seconds"] / (found["reading twice"] + found["products"])
    return {name: statistics.median(found[name] for found in figures) for name in figures[0]}


def run(sizes: tuple[int, int] = SIZES, repeats: int = 7, folder: Path | None = None) -> dict[str, Any]:
    """Return both parts."""
    D, columns = sizes
    report: dict[str, Any] = {"D": D, "columns": columns, "threads": torch.get_num_threads(), "step": {}}
    with tempfile.TemporaryDirectory(dir=folder) as name:
        work = Path(name)
        report["building"] = building(work, D, columns, max(1, repeats // 3))
        for precision in ("float32", "bfloat16", "float16"):
            random_basis(work / precision, D, columns, precision)
            report["step"][precision] = step(work / precision, D, columns, repeats)
            (work / precision).unlink()
    return report


def main() -> None:
    """Print the report as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, metavar="DIR")
    parser.add_argument("--child", nargs="+", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    found = built(arguments.child[1:], arguments.child[0]) if arguments.child else run(folder=arguments.work)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
