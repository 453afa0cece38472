"""Carry out the tables of ways of tuning: ``experiments/methods.yaml``.

    python -m experiments.methods                  # all tables
    python -m experiments.methods minilm_trec --workers 1

Reports and pictures go to ``experiments/results/methods/LABEL/``, runs to the store ``experiments/methods_store/``.
What the store has is not trained again.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from idim.delta_tuning.request import MethodsRequest
from idim.delta_tuning.survey import run_survey
from idim.errors import RequestError, unknown

HERE = Path(__file__).parent
FILE, STORE, RESULTS = HERE / "methods.yaml", HERE / "methods_store", HERE / "results" / "methods"
FIELDS = {field.name for field in dataclasses.fields(MethodsRequest)}


def tables() -> dict[str, MethodsRequest]:
    """Return the requests by label.

    Raises:
        RequestError: for an unknown field.
    """
    content = yaml.safe_load(FILE.read_text())
    return {label: _request(label, content["shared"] | own) for label, own in content["tables"].items()}


def _request(label: str, options: dict[str, Any]) -> MethodsRequest:
    for field in options:
        if field not in FIELDS:
            raise unknown(f"field in {FILE.name}", field, FIELDS)
    return MethodsRequest(out=RESULTS / label, store=STORE, **options)


def main() -> None:
    """Carry out the tables named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", nargs="*", help="tables of methods.yaml; all when none is named")
    parser.add_argument("--workers", type=int, help="worker processes; one for each core unless given")
    arguments = parser.parse_args()
    try:
        known = tables()
        for label in arguments.labels or known:
            if label not in known:
                raise unknown("table", label, known)
            _carry_out(label, dataclasses.replace(known[label], workers=arguments.workers))
    except RequestError as error:
        print(f"experiments: {error}", file=sys.stderr)
        sys.exit(2)


def _carry_out(label: str, request: MethodsRequest) -> None:
    started = time.perf_counter()
    report = run_survey(request)
    report.save(RESULTS / label)
    print(f"\n== {label}  ({time.perf_counter() - started:,.0f} s)\n{report}", flush=True)


if __name__ == "__main__":
    main()
