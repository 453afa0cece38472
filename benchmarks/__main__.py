"""All figures of speed, memory and coverage in one command; JSON out, a table on the screen.

    python -m benchmarks [--only PART ...] [--quick] [--peer DIR] [--out benchmarks/results.json]

Absolute times are those of the machine it runs on; ratios are taken between arms that take turns in
one process. ``--peer`` takes a checkout of the repository of ``intrinsic-dimensionality`` (its
release on the package index holds no code). ``--quick`` takes small sizes, to see a part at work; its
figures are no result and are written only where ``--out`` says.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
from pathlib import Path
from typing import Any

from benchmarks.parts import PARTS, Options
from idim.files import write_json

RESULTS = Path(__file__).parent / "results.json"


def environment() -> dict[str, Any]:
    """Return machine, versions and date."""
    import torch

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


def measure(parts: list[str], options: Options) -> dict[str, Any]:
    """Return the reports of the parts, with the environment."""
    return {"environment": environment()} | {n: part.measure(options) for n, part in PARTS.items() if n in parts}


def table(report: dict[str, Any]) -> str:
    """Return the figures as a Markdown table."""
    rows = [("what", "measured"), ("---", "---")]
    for name, part in PARTS.items():
        rows += part.rows(report[name]) if name in report else []
    return "\n".join(f"| {what} | {figure} |" for what, figure in rows)


def parser() -> argparse.ArgumentParser:
    """Return the command line, with a line on every part."""
    parts = "\n".join(f"  {name:18s}{part.about}" for name, part in PARTS.items())
    found = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog=f"parts:\n{parts}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help="default: all")
    found.add_argument("--quick", action="store_true", help="small sizes, to see a part at work")
    found.add_argument("--peer", type=Path, metavar="DIR")
    found.add_argument("--out", type=Path, help="default: results.json beside the benchmarks; none with --quick")
    return found


def main() -> None:
    """Measure, write the JSON and print the table."""
    arguments = parser().parse_args()
    report = measure(arguments.only, Options(peer=arguments.peer, quick=arguments.quick))
    out = arguments.out or (None if arguments.quick else RESULTS)
    if out is not None:
        write_json(out, (json.loads(out.read_text()) if out.is_file() else {}) | report)
    print(table(report))


if __name__ == "__main__":
    main()
