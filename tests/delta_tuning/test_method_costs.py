"""Costs: cells in processes of their own, kept with their environment; what dies is a cell that says so."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from idim import tasks
from idim.delta_tuning import costs, memory
from idim.delta_tuning.cost import Cost
from idim.delta_tuning.job import Job
from idim.delta_tuning.measuring import answer, warm_up

JOB = Job(
    model="mlp:64", input_shape=(8, 8), outputs=10, target="classes", method="full", precision="fp32",
    batches=(2, 4), length=0,
)  # fmt: skip
KNOWN_BLOCK = """
from idim.delta_tuning import memory
memory.hand_back_at_once()
before = memory.resident_mb()
for size in (64, 16):
    memory.begin_peak()
    block = bytearray(b"x") * (size << 20)
    del block
    print(memory.peak_mb() - before)
"""


@pytest.mark.skipif(not memory.measurable(), reason="this system does not tell a process its peak memory")
def test_the_peak_of_a_known_block() -> None:
    done = subprocess.run([sys.executable, "-c", KNOWN_BLOCK], capture_output=True, text=True, check=True)
    large, small = map(float, done.stdout.split())
    assert 63 < large < 67
    assert 15 < small < 19, "freed blocks go back, and the peak begins anew"


def test_a_job_survives_json() -> None:
    assert Job.from_json(JOB.to_json()) == JOB


def test_auto_measures_the_batch_that_trains_and_full_measures_all() -> None:
    task = tasks.load("digits")
    auto = costs.jobs(task, "mlp:8", task.recipe, ["full", "probe"], "auto")
    assert [(job.method, job.precision, job.batches) for job in auto] == [
        ("full", "fp32", (task.recipe.batch_size,)),
        ("probe", "fp32", (task.recipe.batch_size,)),
    ]
    everything = costs.jobs(task, "mlp:8", task.recipe, ["full"], "full")
    assert [job.precision for job in everything] == ["fp32", "bf16", "nf4"]
    assert all({1, 8, 32, 64} <= set(job.batches) for job in everything)
    halves = dataclasses.replace(task.recipe, precision="bfloat16")
    assert [job.precision for job in costs.jobs(task, "mlp:8", halves, ["full"], "auto")] == ["bf16"]


def test_a_process_measures_every_batch_size() -> None:
    found = costs.measured(JOB)
    assert [cost.cell for cost in found] == JOB.cells
    for cost in found:
        assert not cost.failed
        assert cost.step_ms is not None
        assert cost.step_ms > 0
        assert min(cost.base_ms or 0, cost.inference_ms or 0, cost.merged_ms or 0) > 0
        assert not memory.measurable() or (cost.peak_mb is not None and 0 <= cost.peak_mb < 50)


def lines_of(found: list[dict[str, Any]], batch: int) -> list[dict[str, Any]]:
    """Return the lines about a batch size."""
    return [line for line in found if line.get("batch") == batch]


def test_a_batch_that_does_not_fit_fails_alone() -> None:
    found = list(answer(dataclasses.replace(JOB, batches=(2, 10**12))))
    assert lines_of(found, 10**12)
    assert all("failed" in line for line in lines_of(found, 10**12))
    assert {"forward_ms", "merged_ms"} <= {name for line in lines_of(found, 2) for name in line}


def test_a_method_without_a_place_fails_with_its_reason() -> None:
    (line,) = [line for line in answer(dataclasses.replace(JOB, method="prompt")) if "failed" in line]
    assert "prompt" in line["failed"]


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "the process ended of SIGKILL (batch of 4 rows)"),
        ("raise SystemExit(3)", "the process ended of status 3 (batch of 4 rows)"),
    ],
)
def test_a_process_that_dies_is_a_failed_cell(monkeypatch: pytest.MonkeyPatch, program: str, said: str) -> None:
    told = 'print(\'{"batch": 2, "inference_ms": 1.0, "base_ms": 1.0}\', flush=True); '
    monkeypatch.setattr(costs, "COMMAND", ("-I", "-S", "-c", told + program))
    first, second = costs.measured(JOB)
    assert not first.failed, "what was told before stays"
    assert first.inference_ms == 1.0
    assert second.failed == said


def test_what_rounding_loads_is_loaded_before_memory_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    rounded: list[object] = []
    monkeypatch.setattr("idim.methods.quantise.quantise", rounded.append)
    for precision in ("fp32", "nf4"):
        warm_up(dataclasses.replace(JOB, precision=precision))
        assert len(rounded) == (precision == "nf4")


def test_a_step_that_fails_is_a_failed_cell_though_the_merged_network_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (
        '{"batch": 2, "failed": "no such step"}',
        '{"batch": 4, "inference_ms": 1.0, "base_ms": 3.0}',
        '{"batch": 2, "merged_ms": 2.0, "merged_base_ms": 1.0}',
        '{"batch": 4, "merged_ms": 2.0, "merged_base_ms": 1.0}',
    )
    monkeypatch.setattr(costs, "COMMAND", ("-I", "-S", "-c", f"print({chr(10).join(lines)!r})"))
    first, second = costs.measured(JOB)
    assert first.failed == "no such step (batch of 2 rows)"
    assert second.merged_ms == 6.0, "at the speed of the machine at the time of the base"


def test_costs_are_read_again_only_in_their_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Job] = []

    def measured(job: Job) -> list[Cost]:
        calls.append(job)
        return [Cost(method=m, precision=p, batch=b, length=n, peak_mb=float(b)) for m, p, b, n in job.cells]

    monkeypatch.setattr(costs, "measured", measured)
    first = costs.costs_of([JOB], tmp_path)
    assert costs.costs_of([JOB], tmp_path) == first
    assert [cost.peak_mb for cost in first] == [2.0, 4.0]
    assert len(calls) == 1
    monkeypatch.setattr(costs, "environment", lambda: {"machine": "another"})
    costs.costs_of([JOB], tmp_path)
    assert len(calls) == 2


def test_a_failed_cell_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = [True]

    def measured(job: Job) -> list[Cost]:
        reason = "no memory" if failing.pop() else ""
        failing.append(False)
        return [Cost(method=m, precision=p, batch=b, length=n, failed=reason) for m, p, b, n in job.cells]

    monkeypatch.setattr(costs, "measured", measured)
    assert all(cost.failed for cost in costs.costs_of([JOB], tmp_path))
    assert not any(cost.failed for cost in costs.costs_of([JOB], tmp_path))
