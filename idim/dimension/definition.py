"""What a measure's number is, in words."""

from __future__ import annotations

from idim.dimension.bench import Bench
from idim.tasks.metrics import said

HEADS = {
    "inside": "",
    "trained": ", with its fresh last layer trained directly and not counted in d",
    "frozen": ", with its fresh last layer at its random initial values",
}


def definition(bench: Bench, D: int, threshold: float) -> str:
    """Say in words what d_int is for this network, task, head and bar."""
    return (
        f"d_int is the smallest d for which {bench.model}, all {D:,} parameters moved through a "
        f"{bench.projection} projection of d columns{HEADS[bench.head]}, is expected to {_reach(bench, threshold)} "
        f"on the report split of {bench.task.name} after the last step of the recipe; the expectation is over "
        "initialisation, P and data order together, and the interval covers that and, for a relative bar, the "
        f"reference.{_scores(bench)}"
    )


def _reach(bench: Bench, threshold: float) -> str:
    metric = bench.task.metric
    if bench.task.next_token:
        return f"reach a {metric} of at most {said(metric, threshold)}"
    return f"score at least {threshold:.6g} {metric}"


def _scores(bench: Bench) -> str:
    if not bench.task.next_token:
        return ""
    return (
        " Scores are minus the natural logarithm of the perplexity, and so is what is expected; the perplexity is over "
        "all tokens but the first of each text, and a run that ends worse than the untuned network counts as untuned."
    )
