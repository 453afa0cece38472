"""The d_int of fine-tuning as one Markdown table: ``python -m experiments.tuning_table [EXPERIMENT ...]``.

A row is a report below ``experiments/results/``; nothing is trained.
"""

from __future__ import annotations

import sys

from experiments.run import HERE
from idim.dimension.result import DimensionResult

EXPERIMENTS = ("text_tasks", "text_scratch", "text_said", "text_sizes", "text_kinds", "resnet_sizes")
HEADS = ("experiment", "full tuning", "bar", "d_int", "95 % interval", "score by d")


def interval(result: DimensionResult) -> str:
    """Return the interval in words."""
    lo, hi = result.ci95
    return f"{lo:,.0f}–{hi:,.0f}" if hi < float("inf") else f"≥ {lo:,.0f}"


def row(name: str, result: DimensionResult) -> tuple[str, ...]:
    """Return the cells of one report."""
    reference = result.reference
    full = f"{reference['mean']:.3f} ± {reference['std'] or 0:.3f}" if reference["n"] else ""
    return (
        name,
        full,
        f"{result.bar['value']:.3f}",
        "not reached" if result.d_int is None else f"{result.d_int:,}",
        interval(result),
        ", ".join(f"{p.d:,}: {p.mean:.3f}" for p in result.curve),
    )


def main() -> None:
    """Print the table of the experiments named, or of all."""
    print("|", " | ".join(HEADS), "|")
    print("|", " | ".join("---" for _ in HEADS), "|")
    for experiment in sys.argv[1:] or EXPERIMENTS:
        for report in sorted((HERE / "results" / experiment).glob("*/report.json")):
            name = f"{experiment} / {report.parent.name}"
            print("|", " | ".join(row(name, DimensionResult.load(report.parent))), "|")


if __name__ == "__main__":
    main()
