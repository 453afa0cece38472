"""Carry out an experiment by name: the measures of one YAML file, each with its report and picture.

    python -m experiments.run mnist_fc            # reads experiments/mnist_fc.yaml
    python -m experiments.run mnist_fc --engine serial

Reports go to ``experiments/results/NAME/LABEL/``, runs to the store that the file names, ``experiments/store/``
unless it does; both are committed. What the store has is not trained again.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from idim.dimension.measure import run_measure
from idim.dimension.request import MeasureRequest
from idim.errors import RequestError, unknown

HERE = Path(__file__).parent
FIELDS = {field.name for field in dataclasses.fields(MeasureRequest)}


def requests(name: str) -> dict[str, MeasureRequest]:
    """Return the measures of an experiment by label.

    Raises:
        RequestError: for an unknown experiment or field, or a file of another program.
    """
    files = {path.stem: yaml.safe_load(path.read_text()) for path in HERE.glob("*.yaml")}
    known = {stem: content for stem, content in files.items() if "measures" in content}
    if name in files and name not in known:
        raise RequestError(f"{name}.yaml holds no measures: python -m experiments.{name} reads it")
    if name not in known:
        raise unknown("experiment", name, known)
    content = known[name]
    shared = {"store": HERE / content.get("store", "store")} | content.get("shared", {})
    return {label: _request(name, label, shared | (own or {})) for label, own in content["measures"].items()}


def _request(name: str, label: str, options: dict[str, Any]) -> MeasureRequest:
    for field in options:
        if field not in FIELDS:
            raise unknown(f"field in {name}.yaml", field, FIELDS)
    return MeasureRequest(**({"out": HERE / "results" / name / label} | options))


def main() -> None:
    """Carry out the experiments named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", help="names of YAML files in experiments/")
    parser.add_argument("--engine", choices=("processes", "serial"), default="processes")
    parser.add_argument("--workers", type=int, help="worker processes; one for each core unless given")
    parser.add_argument("--nice", type=int, default=0, help="lower the priority of all that is trained")
    parser.add_argument("--only", nargs="+", help="some labels of the experiment")
    arguments = parser.parse_args()
    os.nice(arguments.nice)
    workers = arguments.workers if arguments.engine == "processes" else None
    try:
        for name in arguments.names:
            _carry_out(name, arguments.only, engine=arguments.engine, workers=workers)
    except RequestError as error:
        print(f"experiments: {error}", file=sys.stderr)
        sys.exit(2)


def _carry_out(name: str, only: Sequence[str] | None, **engine: Any) -> None:
    for label, request in requests(name).items():
        if only is not None and label not in only:
            continue
        started = time.perf_counter()
        result = run_measure(dataclasses.replace(request, **engine))
        result.save(request.out)
        print(f"\n== {name} / {label}  ({time.perf_counter() - started:,.0f} s)\n{result}", flush=True)


if __name__ == "__main__":
    main()
