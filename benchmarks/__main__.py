"""All figures of speed, memory and coverage in one command; JSON out, a table on the screen.

    python -m benchmarks [--only projections step coverage] [--peer DIR] [--out benchmarks/results.json]

Absolute times are those of the machine it runs on; ratios are taken between arms that take turns in
one process. ``--peer`` takes a checkout of the repository of ``intrinsic-dimensionality`` (its
release on the package index holds no code).
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
from pathlib import Path
from typing import Any

import torch

from benchmarks import estimator_coverage, projection_speed, training_step
from idim.files import write_json

PARTS = ("projections", "step", "coverage")
KINDS = ["hadamard", "fastfood", "uniform", "sparse", "kronecker"]


def environment() -> dict[str, Any]:
    """Return machine, versions and date."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def measure(parts: list[str], peer: Path | None) -> dict[str, Any]:
    """Return the reports of the parts, with the environment."""
    report: dict[str, Any] = {"environment": environment()}
    if "projections" in parts:
        report["projections"] = projection_speed.run(KINDS, peer=peer)
    if "step" in parts:
        report["step"] = training_step.run(threads=sorted({1, torch.get_num_threads()}))
    if "coverage" in parts:
        report["coverage"] = estimator_coverage.run()
    return report


def table(report: dict[str, Any]) -> str:
    """Return the figures as a Markdown table."""
    rows = [("what", "measured"), ("---", "---")]
    if "projections" in report:
        rows += _projection_rows(report["projections"])
    if "step" in report:
        rows += _step_rows(report["step"])
    if "coverage" in report:
        rows += _coverage_rows(report["coverage"])
    return "\n".join(f"| {what} | {figure} |" for what, figure in rows)


def _projection_rows(part: dict[str, Any]) -> list[tuple[str, str]]:
    beside, peer = part["beside torch.add"], part["peer"]
    sizes = f"D = {beside['D']:,}, d = {beside['d']:,}"
    rows = [(f"{name}, {sizes}", _passes(figures)) for name, figures in beside["ns per parameter"].items()]
    name = next(n for n in peer["ns per parameter, forward and backward"] if n != "hadamard")
    rows.append((f"forward and backward beside {name}, D = {peer['D']:,}", f"{peer['times as fast']:.0f} x as fast"))
    memory = part["KiB beyond input and output"]
    return rows + [(f"memory of {name} beyond its output", f"{kib} KiB") for name, kib in memory.items()]


def _passes(figures: dict[str, float]) -> str:
    return f"{figures['median']:.2f} ns a parameter, {figures['passes of torch.add']:.1f} x one torch.add pass"


def _step_rows(part: dict[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for name, f in part.items():
        for threads, kinds in f["threads"].items():
            what = f"training step, {name}, d = {f['d']:,}, {threads} threads, beside full AdamW"
            rows += [(f"{what} ({kind})", _step_time(figures)) for kind, figures in kinds.items()]
        peaks = f"{f['subspace_peak_mb']:.3g} against {f['full_peak_mb']:.3g} MB"
        rows.append((f"peak memory of training, {name}", peaks))
    return rows


def _step_time(figures: dict[str, dict[str, float]]) -> str:
    least, median = figures["minimum"], figures["median"]
    times = f"{least['subspace_ms']:.1f} against {least['full_ms']:.1f} ms"
    return f"{least['ratio']:.2f} x the time at the least ({times}), {median['ratio']:.2f} x in the median"


def _coverage_rows(part: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (
            f"95 % interval over {f['simulations']:.0f} simulated curves, {name}",
            f"covers {100 * f['covers']:.1f} %, {f['trainings']:.0f} trainings, width {100 * f['width']:.0f} % "
            f"(a grid of 100 trainings: {100 * f['grid_width']:.0f} %)",
        )
        for name, f in part.items()
    ]


def main() -> None:
    """Measure, write the JSON and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--peer", type=Path, metavar="DIR")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results.json")
    arguments = parser.parse_args()
    report = measure(arguments.only, arguments.peer)
    if arguments.out.is_file():
        report = json.loads(arguments.out.read_text()) | report
    write_json(arguments.out, report)
    print(table(report))


if __name__ == "__main__":
    main()
