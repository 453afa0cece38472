"""One training step in the subspace beside full fine-tuning with AdamW, LoRA and QLoRA: time and peak memory.

Time: the arms live in one process and take turns, step by step. AdamW over the whole network is timed as PyTorch
makes it by default, tensor by tensor, and ``fused``; the optimizer of every other arm is fused, but for that of a
second subspace. ``backward`` is a forward and a backward pass of the whole network and no optimizer: no arm that
needs the gradient of every weight can be much faster. The minimum, the quartiles and the ratios to full tuning are
quoted: on a shared machine the minimum is the work itself. On one that is never idle, ``--clock processor`` counts
the time that the process had, not the time that it waited for others; with one thread the two are otherwise the same.

Memory: each arm runs in a process of its own, which reports by how much its resident memory in training, at its
peak, is above that from before the network was built. It has taken a step of each kind on a tiny network by then, so
that what libraries and compiled code occupy is in no figure; it hands freed memory back at once
(MALLOC_MMAP_THRESHOLD_), so that holes in the heap are in none.

Weights are random: time and memory do not depend on them. The BERT has the size of all-MiniLM-L6 (6 layers of 384,
30,522 words, no pooling layer), batch 16 of 40 tokens. Words are drawn by Zipf's law over the numbers of the
vocabulary, as in a text, since the time of the subspace depends on how many are different (``words``: how many,
of 640); ``--words uniform`` draws them from the whole vocabulary alike.

    python -m benchmarks.training_step [--threads 1 2] [--model minilm-size-bert] [--words uniform] [--out FILE]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from idim import Subspace, methods, models
from idim.files import write_json
from idim.models.language import TextModel

WORDS, BATCH, LENGTH = 30_522, 16, 40
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
Step = Callable[[], None]
Loss = Callable[[nn.Module], Tensor]


@dataclass(frozen=True, kw_only=True)
class Work:
    """A network, how its step is timed, and which arms it has.

    Attributes:
        make: returns the network and the loss of one batch; takes how words are drawn.
        d: of the subspace.
        rounds: timed steps of every arm.
        arms: by name: the method, and whether its optimizer is fused.
    """

    make: Callable[[str], tuple[nn.Module, Loss]]
    d: int
    rounds: int
    arms: dict[str, tuple[str, bool]]


def mnist_mlp(words: str) -> tuple[nn.Module, Loss]:
    """Return 784-200-200-10 and the loss of one batch of 128."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(128, 1, 28, 28, generator=generator)
    y = torch.randint(0, 10, (128,), generator=generator)
    model = models.build("mlp:200,200", input_shape=(1, 28, 28), outputs=10, seed=0)
    return model, lambda m: nn.functional.cross_entropy(m(x), y)


def bert(*, hidden: int = 384, layers: int = 6, words: int = WORDS) -> nn.Module:
    """Return a BERT with a head of two outputs; by default of the size of MiniLM."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=12,
        intermediate_size=4 * hidden,
        vocab_size=words,
    )
    return TextModel(BertModel(config), outputs=2, causal=False, generator=torch.Generator().manual_seed(0))


def numbers_of_words(words: str) -> Tensor:
    """Return the words of one batch, [16, 40]."""
    rank = torch.arange(1, WORDS + 1, dtype=torch.float64)
    weights = 1 / rank if words == "zipf" else torch.ones_like(rank)
    drawn = torch.multinomial(weights, BATCH * LENGTH, replacement=True, generator=torch.Generator().manual_seed(0))
    return drawn.view(BATCH, LENGTH)


def minilm_size_bert(words: str) -> tuple[nn.Module, Loss]:
    """Return a BERT of MiniLM's size and the loss of one batch of 16 x 40 tokens."""
    numbers = numbers_of_words(words)
    tokens, y = torch.stack([numbers, torch.zeros_like(numbers)], dim=2), numbers[:, 0] % 2
    return bert(), lambda m: nn.functional.cross_entropy(m(tokens), y)


COMMON = {
    "full": ("full", False),
    "full, fused": ("full", True),
    "backward": ("backward", True),
    "subspace": ("subspace", False),
    "subspace, fused": ("subspace", True),
}
LOW_RANK = {"lora": ("lora:rank=8", True), "qlora": ("qlora:rank=8", True)}
WORK = {
    "mnist-mlp": Work(make=mnist_mlp, d=750, rounds=400, arms=COMMON),
    "minilm-size-bert": Work(make=minilm_size_bert, d=1000, rounds=40, arms=COMMON | LOW_RANK),
}


def make_step(model: nn.Module, loss: Loss, optimizer: torch.optim.Optimizer | None) -> Step:
    """Return a function that takes one step."""
    model.train()

    def step() -> None:
        model.zero_grad(set_to_none=True)
        loss(model).backward()
        if optimizer is not None:
            optimizer.step()

    return step


def arm_step(model: nn.Module, loss: Loss, method: str, *, d: int, fused: bool = True) -> Step:
    """Return the step of one arm: AdamW over what the method trains, Adam over z."""
    kind: dict[str, Any] = {"fused": True} if fused else {}
    if method == "subspace":
        space = Subspace(model, projection="hadamard", d=d, seed=0)
        return make_step(space, loss, torch.optim.Adam(space.parameters(), lr=1e-3, **kind))
    if method not in ("full", "backward"):
        model = methods.attach(methods.parse(method), model, methods.Setting(seed=0, steps=1)).module
    trained = [p for p in model.parameters() if p.requires_grad]
    return make_step(model, loss, None if method == "backward" else torch.optim.AdamW(trained, lr=1e-4, **kind))


def step_of(name: str, arm: str, words: str) -> Step:
    """Return the step of one arm on a network of its own."""
    work = WORK[name]
    method, fused = work.arms[arm]
    return arm_step(*work.make(words), method, d=work.d, fused=fused)


def timed(step: Step, clock: str) -> float:
    """Return the milliseconds of one step."""
    now = CLOCKS[clock]
    start = now()
    step()
    return 1e3 * (now() - start)


def time_arms(name: str, words: str, clock: str) -> dict[str, dict[str, float]]:
    """Time all arms in turn; return milliseconds by quantile, and their ratios to full tuning."""
    steps = {arm: step_of(name, arm, words) for arm in WORK[name].arms}
    for step in 3 * list(steps.values()):
        step()
    rounds = [{arm: timed(step, clock) for arm, step in steps.items()} for _ in range(WORK[name].rounds)]
    return compare({arm: [r[arm] for r in rounds] for arm in steps})


def compare(times: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Return every arm's quantiles, and its minimum and lower quartile beside those of ``full`` and ``full, fused``."""
    report = {arm: _quantiles(ms) for arm, ms in times.items()}
    for figures in list(report.values()):
        for other in ("full", "full, fused"):
            for word in ("minimum", "lower quartile", "median"):
                figures[f"{word} / {other}"] = figures[word] / report[other][word]
    return report


def _quantiles(ms: list[float]) -> dict[str, float]:
    lower, median, upper = statistics.quantiles(ms, n=4)
    return {"minimum": min(ms), "lower quartile": lower, "median": median, "upper quartile": upper}


def _status_mb(field: str) -> float:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith(field))


def _load_libraries(name: str, arm: str) -> None:
    """Take a step of this arm on a tiny network, in the kernels of this d."""
    method, fused = WORK[name].arms[arm]
    y, d = torch.zeros(4, dtype=torch.int64), WORK[name].d
    if name == "mnist-mlp":
        tiny, x = models.build("mlp:4", input_shape=(784,), outputs=10, seed=0), torch.ones(4, 784)
    else:
        tiny, x = bert(hidden=96, layers=1, words=12_000), torch.ones(4, 8, 2, dtype=torch.int64)
    arm_step(tiny, lambda m: nn.functional.cross_entropy(m(x), y), method, d=d, fused=fused)()


def peak_memory_mb(name: str, arm: str, words: str) -> float:
    """Return by how many MB the resident memory of this process rises until five steps are taken."""
    _load_libraries(name, arm)
    before = _status_mb("VmRSS")
    step = step_of(name, arm, words)
    Path("/proc/self/clear_refs").write_text("5")  # begin a new peak: what follows is training
    for _ in range(5):
        step()
    return _status_mb("VmHWM") - before


def peak_in_child(name: str, arm: str, words: str) -> float:
    """Return :func:`peak_memory_mb` of a fresh process."""
    command = [sys.executable, "-m", "benchmarks.training_step", "--child", name, arm, "--words", words]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return float(done.stdout.split()[-1])


def with_threads(name: str, threads: int, words: str, clock: str) -> dict[str, dict[str, float]]:
    """Return :func:`time_arms` on ``threads`` threads of PyTorch."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return time_arms(name, words, clock)
    finally:
        torch.set_num_threads(before)


def run(
    names: Sequence[str] = tuple(WORK), threads: Sequence[int] = (), words: str = "zipf", clock: str = "wall"
) -> dict[str, Any]:
    """Return time and memory of all arms; times for each number of threads, by default PyTorch's own."""
    report: dict[str, Any] = {}
    for name in names:
        report[name] = {
            "d": WORK[name].d,
            "D": sum(p.numel() for p in WORK[name].make(words)[0].parameters()),
            "words": {"drawn": words, "different": len(numbers_of_words(words).unique())},
            "clock": clock,
            "load": os.getloadavg()[0],
            "peak MB": {arm: peak_in_child(name, arm, words) for arm in WORK[name].arms},
            "threads": {str(n): with_threads(name, n, words, clock) for n in threads or [torch.get_num_threads()]},
        }
    return report


def table(report: dict[str, Any]) -> str:
    """Return the figures as Markdown tables."""
    head = "| {} | ms: least | quartiles | x full AdamW | x fused | peak MB |\n| --- | --- | --- | --- | --- | --- |"
    parts = []
    for name, figures in report.items():
        for threads, arms in figures["threads"].items():
            rows = [_row(arm, f, figures["peak MB"][arm]) for arm, f in arms.items()]
            parts.append("\n".join([head.format(f"{name}, d = {figures['d']:,}, threads: {threads}"), *rows]))
    return "\n\n".join(parts)


def _row(arm: str, f: dict[str, float], peak: float) -> str:
    quartiles = " ".join(f"{f[word]:.1f}" for word in ("lower quartile", "median", "upper quartile"))
    ratios = " | ".join(
        f"{f[f'minimum / {o}']:.2f} ({f[f'lower quartile / {o}']:.2f})" for o in ("full", "full, fused")
    )
    return f"| {arm} | {f['minimum']:.1f} | {quartiles} | {ratios} | {peak:.0f} |"


def main() -> None:
    """Print the tables and write the JSON, or print one child's peak."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", nargs=2, metavar=("MODEL", "ARM"), help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, nargs="+", default=[])
    parser.add_argument("--model", choices=list(WORK), nargs="+", default=list(WORK))
    parser.add_argument("--words", choices=["zipf", "uniform"], default="zipf")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.child:
        print(peak_memory_mb(*arguments.child, arguments.words))
        return
    report = run(arguments.model, arguments.threads, arguments.words, arguments.clock)
    if arguments.out:
        write_json(arguments.out, report)
    print(table(report))


if __name__ == "__main__":
    main()
