"""One table of the reports of :mod:`experiments.spectra`: ``python -m experiments.spectra_table``.

A row is a task and an arm, its cells the mean over seeds. Ranks are medians over the weight matrices of
the body, embeddings left out, as shares of the largest possible rank.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterator
from typing import Any

from experiments.spectra import RESULTS, STORE, arms
from idim.runs import Store

HEADS = ("task", "arm", "score", "change", "verdicts", "rank", "effective", "90 %", "above null")
SMALLEST = 16


def rows() -> Iterator[tuple[str, ...]]:
    """Yield the cells of each task and arm."""
    scores = _scores()
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for path in sorted(RESULTS.glob("*/*/report.json")):
        arm = path.parent.name.rpartition("-")[0]
        groups.setdefault((path.parts[-3], arm), []).append(json.loads(path.read_text()))
    for (task, arm), reports in groups.items():
        found = scores.get((task, arm), [])
        yield task, arm, " ".join(f"{s:.3f}" for s in found), *_cells(reports)


def _scores() -> dict[tuple[str, str], list[float]]:
    found: dict[tuple[str, str], list[float]] = {}
    with Store.read(STORE) as store:
        for arm in arms():
            outcome = store.get(arm.spec)
            if outcome is not None and outcome.result is not None:
                task, label = arm.label.split("/")
                found.setdefault((task, label.rpartition("-")[0]), []).append(outcome.result.score)
    for path in sorted(RESULTS.glob("*/lora-*/run.json")):
        found.setdefault((path.parts[-3], "lora"), []).append(json.loads(path.read_text())["score"])
    return found


def _cells(reports: list[dict[str, Any]]) -> tuple[str, ...]:
    inner = [m for report in reports for m in report["matrices"] if is_inner(m)]
    said = ", ".join(f"{count} {verdict}" for verdict, count in Counter(m["verdict"] for m in inner).most_common())
    relative = [m["relative"] for m in inner if m["relative"] is not None]
    return (
        f"{statistics.median(relative):.2g}" if relative else "",
        said,
        _share(inner, lambda m: m["rank"]),
        _share(inner, lambda m: m["measures"]["effective_rank"]),
        _share(inner, lambda m: m["measures"]["energy_rank_90"]),
        _share(inner, lambda m: m["null"]["above"] if m["null"] else None),
    )


def is_inner(matrix: dict[str, Any]) -> bool:
    """Whether a matrix is one of the body's layers: no embedding, no head."""
    words = matrix["name"].split(".")
    return "embeddings" not in words and words[0] != "head" and min(matrix["matrix"]) >= SMALLEST


def _share(matrices: list[dict[str, Any]], value: Any) -> str:
    shares = [value(m) / min(m["matrix"]) for m in matrices if value(m) is not None]
    return f"{statistics.median(shares):.1%}" if shares else "–"


def main() -> None:
    """Print the table as Markdown."""
    print("|", " | ".join(HEADS), "|")
    print("|", " | ".join("---" for _ in HEADS), "|")
    for row in rows():
        print("|", " | ".join(row), "|")


if __name__ == "__main__":
    main()
