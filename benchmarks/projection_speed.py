"""P z and Pᵀ g: nanoseconds per native parameter beside one pass of ``torch.add``, and the memory they need.

Calls of all arms take turns in one process, so that a busy machine slows them alike; minimum and median are
quoted. Memory is the rise of the peak resident size over the first call, with input and output already there
and the kernel compiled; it includes the pages of torch's code that this call is the first to touch.

The peer of 2020, ``intrinsic-dimensionality``, applies one Fastfood map padded to a power of two, in plain
torch operations. Its release 0.1 on the package index holds no code; ``--peer DIR`` takes a checkout of
its repository, and without one the same map is written out here from the formula
(Q. Le, T. Sarlós and A. Smola, "Fastfood", 2013): five stored vectors, H G Π H B.

    python -m benchmarks.projection_speed [--out FILE] [--peer DIR]
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from idim import projections
from idim.kernels.walsh import fwht

LARGE, PEER_SIZE, COORDINATES = 22_713_986, 8_000_000, 1000
WARM = 1 << 20  # rows that go through the same compiled code as LARGE, several pieces on several threads
Call = Callable[[], object]


def normal(size: int) -> Tensor:
    """Return standard normal numbers, the same every time."""
    return torch.randn(size, generator=torch.Generator().manual_seed(0))


def clock(call: Call) -> float:
    """Return the seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def turns(arms: dict[str, Call], repeats: int, size: int) -> dict[str, dict[str, float]]:
    """Return minimum and median nanoseconds per native parameter of every arm, called in turn."""
    for call in arms.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(repeats):
        for name, call in arms.items():
            times[name].append(1e9 * clock(call) / size)
    return {name: {"min": min(t), "median": statistics.median(t)} for name, t in times.items()}


def arms_of(kind: str, d: int, theta0: Tensor, theta: Tensor, g: Tensor) -> dict[str, Call]:
    """Return the two products of one kind, for vectors as long as ``theta0``."""
    P, z = projections.create(kind, D=theta0.numel(), d=d, seed=0), normal(d)
    return {
        f"{kind} matvec": lambda: P.matvec(z, out=theta, base=theta0),
        f"{kind} rmatvec": lambda: P.rmatvec(g),
    }


def beside_add(kinds: list[str], repeats: int) -> dict[str, Any]:
    """Time theta0 + P z and Pᵀ g of every kind beside ``torch.add(theta0, g, out=theta)``."""
    theta0, g = normal(LARGE), normal(LARGE)
    theta = torch.empty(LARGE)
    arms: dict[str, Call] = {"torch.add": lambda: torch.add(theta0, g, out=theta)}
    for kind in kinds:
        arms |= arms_of(kind, COORDINATES, theta0, theta, g)
    report: dict[str, Any] = turns(arms, repeats, LARGE)
    for figures in report.values():
        figures["passes of torch.add"] = figures["median"] / report["torch.add"]["median"]
    return {"D": LARGE, "d": COORDINATES, "ns per parameter": report}


def plain_fastfood(size: int) -> Callable[[Tensor], Tensor]:
    """Return one padded Fastfood map in torch operations, its vectors stored, as the peer has it."""
    padded = 1 << (size - 1).bit_length()
    generator = torch.Generator().manual_seed(0)
    sign = torch.randint(0, 2, (padded,), generator=generator).float() * 2 - 1
    order, gauss = torch.randperm(padded, generator=generator), normal(padded)
    scale = 1 / float(gauss.norm() * padded**0.5)
    return lambda z: (
        scale * fwht(gauss * fwht(sign * torch.nn.functional.pad(z, (0, padded - z.numel())))[order])[:size]
    )


def peer_map(size: int, checkout: Path | None) -> tuple[str, Callable[[Tensor], Tensor]]:
    """Return the peer's map and its name: from its repository, or written out."""
    if checkout is None:
        return "plain torch Fastfood", plain_fastfood(size)
    sys.path.insert(0, str(checkout))
    module = importlib.import_module("intrinsic.fastfood")
    stored = module.fastfood_vars(size, "cpu")
    return "intrinsic-dimensionality", lambda z: module.fastfood_torched(z, size, stored)


def beside_peer(checkout: Path | None, repeats: int) -> dict[str, Any]:
    """Time forward and backward together, ours and the peer's."""
    name, peer = peer_map(PEER_SIZE, checkout)
    z, g = normal(COORDINATES).requires_grad_(), normal(PEER_SIZE)
    P = projections.create("hadamard", D=PEER_SIZE, d=COORDINATES, seed=0)
    start, theta = z.detach(), torch.empty(PEER_SIZE)

    def ours() -> None:
        P.matvec(start, out=theta)
        P.rmatvec(g)

    report = turns({"hadamard": ours, name: lambda: torch.autograd.grad(peer(z), z, g)}, repeats, PEER_SIZE)
    times = report[name]["median"] / report["hadamard"]["median"]
    return {"D": PEER_SIZE, "d": COORDINATES, "ns per parameter, forward and backward": report, "times as fast": times}


def _resident_kib(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def peak_kib(call: Call) -> int:
    """Return by how many KiB the resident memory of this process peaks during ``call`` (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # begin a new peak
    before = _resident_kib("VmRSS")
    call()
    return max(0, _resident_kib("VmHWM") - before)


def memory(kinds: list[str]) -> dict[str, dict[str, int]]:
    """Return the peak memory of every kind beyond its input and output, in KiB, once it is compiled."""
    theta0, g, theta = torch.zeros(LARGE), torch.ones(LARGE), torch.zeros(LARGE)
    report = {}
    for kind in kinds:
        for call in arms_of(kind, COORDINATES, theta0[:WARM], theta[:WARM], g[:WARM]).values():
            call()  # compiles
        report |= {name: peak_kib(call) for name, call in arms_of(kind, COORDINATES, theta0, theta, g).items()}
    return {"KiB beyond input and output": report}


def run(kinds: list[str], repeats: int = 15, peer: Path | None = None) -> dict[str, Any]:
    """Return machine, speeds beside torch.add and beside the peer, and memory."""
    machine = {"machine": platform.machine(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    # memory first: freed pages of other arms would hide what is used
    return {**machine, **memory(kinds), "beside torch.add": beside_add(kinds, repeats), "peer": beside_peer(peer, 3)}


def main() -> None:
    """Print the report as JSON and write it to ``--out``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--peer", type=Path, metavar="DIR")
    parser.add_argument("--kinds", nargs="+", default=["hadamard", "fastfood", "uniform", "sparse"])
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    report = json.dumps(run(arguments.kinds, arguments.repeats, arguments.peer), indent=2)
    print(report)
    if arguments.out:
        arguments.out.write_text(report + "\n")


if __name__ == "__main__":
    main()
