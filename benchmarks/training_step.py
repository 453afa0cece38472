"""One training step in the subspace beside full fine-tuning with AdamW: time and peak memory.

Time: both arms live in one process and take turns, step by step; the medians and their ratio are
quoted. Memory: each arm runs in a process of its own, which reports by how much its peak resident
memory rose from before the model was built. Weights are random: time and memory do not depend on
them. The BERT has the size of all-MiniLM-L6 (6 layers of 384, 30,522 words), batch 16 of 40 tokens.

    python -m benchmarks.training_step
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from idim import Subspace, models

SETTINGS = {"mnist-mlp": (750, 200), "minilm-size-bert": (1000, 15)}  # d, timed steps
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


def arm_step(name: str, arm: str) -> Step:
    """Return the step of one arm: ``full`` with AdamW, or ``subspace`` with Adam on z."""
    model, loss = MODELS[name]()
    if arm == "full":
        return make_step(model, loss, torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True))
    space = Subspace(model, projection="hadamard", d=SETTINGS[name][0], seed=0)
    del model
    return make_step(space, loss, torch.optim.Adam([p for p in space.parameters() if p.requires_grad], lr=1e-3))


def clock(step: Step) -> float:
    """Return the seconds of one step."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def time_pair(name: str) -> dict[str, Any]:
    """Time both arms in turn and return medians in milliseconds and the ratio of the pairs."""
    full, subspace = arm_step(name, "full"), arm_step(name, "subspace")
    for _ in range(3):
        full(), subspace()
    pairs = [(clock(full), clock(subspace)) for _ in range(SETTINGS[name][1])]
    return {
        "full_ms": 1e3 * statistics.median(a for a, _ in pairs),
        "subspace_ms": 1e3 * statistics.median(b for _, b in pairs),
        "ratio": statistics.median(b / a for a, b in pairs),
    }


def _status_mb(field: str) -> float:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith(field))


def peak_memory_mb(name: str, arm: str) -> float:
    """Return by how many MB the peak resident memory of this process rises over five steps."""
    before = _status_mb("VmRSS")
    step = arm_step(name, arm)
    for _ in range(5):
        step()
    return _status_mb("VmHWM") - before


def peak_in_child(name: str, arm: str) -> float:
    """Return :func:`peak_memory_mb` of a fresh process."""
    command = [sys.executable, "-m", "benchmarks.training_step", "--child", name, arm]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def run() -> dict[str, Any]:
    """Return time and memory of both arms on both models."""
    report: dict[str, Any] = {"threads": torch.get_num_threads()}
    for name in MODELS:
        memory = {f"{arm}_peak_mb": peak_in_child(name, arm) for arm in ("full", "subspace")}
        report[name] = {"d": SETTINGS[name][0], **time_pair(name), **memory}
    return report


def main() -> None:
    """Print the report as JSON, or one child's peak."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=2, metavar=("MODEL", "ARM"))
    arguments = parser.parse_args()
    print(peak_memory_mb(*arguments.child) if arguments.child else json.dumps(run(), indent=2))


if __name__ == "__main__":
    main()
