"""The process that measures costs: ``python -m idim.delta_tuning.measuring`` reads a job on stdin, answers on stdout.

One line of JSON as soon as something is known, so that a process that is killed at the largest batch has told what came
before: ``{"batch": 8, "peak_mb": 300.0}``, ``{"batch": 64, "failed": why}``, or ``{"failed": why}`` for all. Memory
comes first, in one network; times after that, where a second one stands for the untouched base.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch

from idim.delta_tuning import memory
from idim.delta_tuning.job import Job
from idim.delta_tuning.step import Step, answer_times, step_times
from idim.errors import RequestError
from idim.methods import Setting, attach, parse

STEPS = 3  # until the optimizer's state and all buffers are there
Line = dict[str, Any]


def main() -> None:
    """Answer the one job on stdin."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print must not mix with answers
    torch.set_num_threads(1)
    for line in answer(Job.from_json(json.load(sys.stdin))):
        print(json.dumps(line), file=answers, flush=True)


def answer(job: Job) -> Iterator[Line]:
    """Yield what is found out, phase by phase."""
    try:
        if memory.measurable():
            yield from peaks(job)
        yield from times(job)
    except Exception as error:
        yield {"failed": in_a_line(error)}


def peaks(job: Job) -> Iterator[Line]:
    """Yield the peak of a few training steps beyond what there was before the network, by batch size."""
    warm_up(job)
    memory.hand_back_at_once()
    gc.collect()
    before = memory.resident_mb()
    network = job.network()
    step = Step(job, job.attached(network))

    def peak(batch: int) -> Line:
        inputs, targets = job.rows(network, batch)
        memory.begin_peak()
        for _ in range(STEPS):
            step(inputs, targets)
        return {"peak_mb": memory.peak_mb() - before}

    yield from each(job, peak)


def times(job: Job) -> Iterator[Line]:
    """Yield the times of steps, of answers beside the base's, and of answers after merging."""
    memory.keep_freed()
    base, network = job.network(), job.network()
    attached = job.attached(network)
    step = Step(job, attached)

    def timed(batch: int) -> Line:
        inputs, targets = job.rows(base, batch)
        forward, backward, optimizer = step_times(step, inputs, targets)
        untouched, with_method = answer_times([base, attached.module], inputs)
        parts = {"forward_ms": forward, "backward_ms": backward, "optimizer_ms": optimizer}
        return parts | {"base_ms": untouched, "inference_ms": with_method}

    yield from each(job, timed)
    try:
        merged = attached.merge()
    except RequestError:  # not a change of the network's own numbers, or these are in four bits
        return

    def after(batch: int) -> Line:
        inputs, _ = job.rows(base, batch)
        untouched, found = answer_times([base, merged], inputs)
        return {"merged_ms": found, "merged_base_ms": untouched}

    yield from each(job, after)


def each(job: Job, measure: Callable[[int], Line]) -> Iterator[Line]:
    """Yield what is measured at every batch size, or why it failed there."""
    for batch in job.batches:
        try:
            yield {"batch": batch, **measure(batch)}
        except Exception as error:
            yield {"batch": batch, "failed": in_a_line(error)}
        gc.collect()


def warm_up(job: Job) -> None:
    """Load and compile what every training of the kind needs, so that it is in no figure."""
    try:
        small = job.rounded(job.small())
        attached = job.attached(small)
    except RequestError:
        small = job.small()
        attached = attach(parse("full"), small, Setting(seed=0, steps=STEPS))
    step = Step(job, attached)
    for _ in range(STEPS):
        step(*job.rows(small, 2))


def in_a_line(error: Exception) -> str:
    """Return what went wrong on one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, RequestError) else f"{type(error).__name__}: {text}"


if __name__ == "__main__":
    main()
