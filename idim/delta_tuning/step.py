"""One training step in its three parts, and answers to a batch, timed.

Times are those of the processor, of one thread: on a machine that is otherwise idle that is the time on the wall, and
where others take turns it is still what the work takes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from idim.delta_tuning.job import Job
from idim.methods import Attached

RATE = 1e-5
WARM, TIMED = 2, 5

Times = tuple[float, float, float]


class Step:
    """Training steps of an attached method on one batch.

    Args:
        job: names the loss.
        attached: the method on the network.
    """

    def __init__(self, job: Job, attached: Attached) -> None:
        self.job, self.attached = job, attached
        self.done = 0
        self.optimizer = torch.optim.AdamW(groups(attached), lr=RATE, fused=True)

    def __call__(self, inputs: Tensor, targets: Tensor) -> Times:
        """Take a step; return the milliseconds of forward, backward and optimizer."""
        self.attached.module.train()
        started = time.process_time()
        loss = self.job.loss(self.attached.module(inputs), targets)
        penalty = self.attached.penalty()
        loss = loss if penalty is None else loss + penalty
        forward = time.process_time()
        loss.backward()  # type: ignore[no-untyped-call]
        backward = time.process_time()
        self.optimizer.step()
        self.done += 1
        self.attached.after_step(self.done)
        self.optimizer.zero_grad()
        ended = time.process_time()
        return 1e3 * (forward - started), 1e3 * (backward - forward), 1e3 * (ended - backward)


def groups(attached: Attached) -> list[dict[str, object]]:
    """Return the parameters that train, those with a rate of their own apart."""
    own = [{"params": list(parameters), "lr": rate} for parameters, rate in attached.own_rates()]
    apart = {id(parameter) for parameters, _ in attached.own_rates() for parameter in parameters}
    rest = [p for p in attached.module.parameters() if p.requires_grad and id(p) not in apart]
    return [{"params": rest}, *own] if rest else own


def step_times(step: Step, inputs: Tensor, targets: Tensor) -> Times:
    """Return the medians of the parts of a step, in milliseconds."""
    times = [step(inputs, targets) for _ in range(WARM + TIMED)][WARM:]
    forward, backward, optimizer = (statistics.median(part) for part in zip(*times, strict=True))
    return forward, backward, optimizer


def answer_times(networks: Sequence[nn.Module], inputs: Tensor) -> list[float]:
    """Return the median milliseconds of each network's answers; they take turns."""
    for network in networks:
        network.eval()
    with torch.no_grad():
        rounds = [[clock(network, inputs) for network in networks] for _ in range(WARM + TIMED)][WARM:]
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


def clock(call: Callable[[Tensor], object], inputs: Tensor) -> float:
    """Return the milliseconds of one call."""
    started = time.process_time()
    call(inputs)
    return 1e3 * (time.process_time() - started)
