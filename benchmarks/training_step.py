"""One training step in the subspace beside full fine-tuning with AdamW: time and peak memory.

Time: the arms live in one process and take turns, step by step. AdamW is timed as PyTorch makes it
by default, tensor by tensor, and ``fused``; Adam on z is made in the same way each time. The minimum,
the lower quartile and the median over the steps are quoted: on a shared machine the minimum is the
work itself, and the ratio of the minima is the cost of the subspace.
Memory: each arm runs in a process of its own, which reports by how much its peak resident
memory rose from before the model was built. Both have taken a step of either kind on a tiny network by then,
so that what libraries and compiled code occupy is in neither figure; both hand freed memory back at once
(MALLOC_MMAP_THRESHOLD_), so that holes in the heap are in neither. Weights are random: time and memory do
not depend on them. The BERT has the size of all-MiniLM-L6 (6 layers of 384, 30,522 words), batch 16 of 40 tokens.

    python -m benchmarks.training_step [--threads 1 2] [--model mnist-mlp]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from idim import Subspace, models

SETTINGS = {"mnist-mlp": (750, 400), "minilm-size-bert": (1000, 15)}  # d, timed steps
QUANTILES = {"minimum": 0.0, "lower quartile": 0.25, "median": 0.5}
Step = Callable[[], None]


def mnist_mlp() -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    """Return 784-200-200-10 and the loss of one batch of 128."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(128, 784, generator=generator)
    y = torch.randint(0, 10, (128,), generator=generator)
    model = models.build("mlp:200,200", input_shape=(1, 28, 28), outputs=10, seed=0)
    return model, lambda m: nn.functional.cross_entropy(m(x.reshape(128, 1, 28, 28)), y)


def minilm_size_bert() -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    """Return a BERT of MiniLM's size and the loss of one batch of 16 x 40 tokens."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, config.vocab_size, (16, 40), generator=generator)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids[:, 0] % 2}
    return BertForSequenceClassification(config), lambda m: m(**batch).loss


MODELS = {"mnist-mlp": mnist_mlp, "minilm-size-bert": minilm_size_bert}


def make_step(model: nn.Module, loss: Callable[[nn.Module], Tensor], optimizer: torch.optim.Optimizer) -> Step:
    """Return a function that takes one step."""
    model.train()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(model).backward()
        optimizer.step()

    return step


def arm_step(name: str, arm: str, *, fused: bool = True) -> Step:
    """Return the step of one arm: ``full`` with AdamW, or ``subspace`` with Adam on z."""
    kind: dict[str, Any] = {"fused": True} if fused else {}
    model, loss = MODELS[name]()
    if arm == "full":
        return make_step(model, loss, torch.optim.AdamW(model.parameters(), lr=1e-4, **kind))
    space = Subspace(model, projection="hadamard", d=SETTINGS[name][0], seed=0)
    del model
    return make_step(space, loss, torch.optim.Adam(space.parameters(), lr=1e-3, **kind))


def clock(step: Step) -> float:
    """Return the seconds of one step."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def time_arms(name: str) -> dict[str, Any]:
    """Time all arms in turn; return, for AdamW fused and by default, milliseconds and ratios by quantile."""
    steps = {(arm, fused): arm_step(name, arm, fused=fused) for arm in ("full", "subspace") for fused in (True, False)}
    for step in 3 * list(steps.values()):
        step()
    rounds = [{arm: clock(step) for arm, step in steps.items()} for _ in range(SETTINGS[name][1])]
    return {
        word: compare([r["full", fused] for r in rounds], [r["subspace", fused] for r in rounds])
        for word, fused in (("fused", True), ("default", False))
    }


def compare(full: list[float], subspace: list[float]) -> dict[str, dict[str, float]]:
    """Return both arms' quantiles in milliseconds, and their ratios."""
    report = {}
    for word, share in QUANTILES.items():
        a, b = (1e3 * sorted(times)[round(share * (len(times) - 1))] for times in (full, subspace))
        report[word] = {"full_ms": a, "subspace_ms": b, "ratio": b / a}
    return report


def _status_mb(field: str) -> float:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith(field))


def _load_libraries(name: str) -> None:
    """Take a step of either arm on a tiny network; import what the model of this name needs."""
    x, y = torch.ones(4, 784), torch.zeros(4, dtype=torch.int64)
    tiny = models.build("mlp:4", input_shape=(784,), outputs=10, seed=0)
    space = Subspace(tiny, projection="hadamard", d=SETTINGS[name][0], seed=0)
    optimizers = {tiny: torch.optim.AdamW, space: torch.optim.Adam}
    for model, make in optimizers.items():
        optimizer = make(model.parameters(), fused=True)
        make_step(model, lambda m: nn.functional.cross_entropy(m(x), y), optimizer)()
    if name == "minilm-size-bert":
        from transformers import BertConfig, BertForSequenceClassification

        BertForSequenceClassification(BertConfig(hidden_size=12, num_hidden_layers=1, vocab_size=9))


def peak_memory_mb(name: str, arm: str) -> float:
    """Return by how many MB the peak resident memory of this process rises over five steps."""
    _load_libraries(name)
    Path("/proc/self/clear_refs").write_text("5")  # begin a new peak
    before = _status_mb("VmRSS")
    step = arm_step(name, arm)
    for _ in range(5):
        step()
    return _status_mb("VmHWM") - before


def peak_in_child(name: str, arm: str) -> float:
    """Return :func:`peak_memory_mb` of a fresh process."""
    command = [sys.executable, "-m", "benchmarks.training_step", "--child", name, arm]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return float(done.stdout.split()[-1])


def time_with_threads(name: str, threads: int) -> dict[str, Any]:
    """Return :func:`time_arms` on ``threads`` threads of PyTorch."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return time_arms(name)
    finally:
        torch.set_num_threads(before)


def run(names: Sequence[str] = tuple(MODELS), threads: Sequence[int] = ()) -> dict[str, Any]:
    """Return time and memory of both arms; times for each number of threads, by default PyTorch's own."""
    report: dict[str, Any] = {}
    for name in names:
        memory = {f"{arm}_peak_mb": peak_in_child(name, arm) for arm in ("full", "subspace")}
        times = {str(n): time_with_threads(name, n) for n in threads or [torch.get_num_threads()]}
        report[name] = {"d": SETTINGS[name][0], "threads": times, **memory}
    return report


def main() -> None:
    """Print the report as JSON, or one child's peak."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=2, metavar=("MODEL", "ARM"))
    parser.add_argument("--threads", type=int, nargs="+", default=[])
    parser.add_argument("--model", choices=list(MODELS), nargs="+", default=list(MODELS))
    arguments = parser.parse_args()
    if arguments.child:
        print(peak_memory_mb(*arguments.child))
    else:
        print(json.dumps(run(arguments.model, arguments.threads), indent=2))


if __name__ == "__main__":
    main()
