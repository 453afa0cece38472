"""Time and memory of the spectrum report of a model of 1.1 billion parameters, in shards of bfloat16.

    python -m benchmarks.spectrum_scale [--layers 22] [--relative 0.01] [--folder DIR] [--out scale.json]

Writes a pair of models with the shapes of TinyLlama (vocabulary 32,000, width 2048, inner width 5632, keys and values
of 256) to a temporary folder, 2.2 GB each with 22 layers; the tuned one adds independent normal entries of a relative
norm to every matrix, or (``--rank``) a product of that rank. Two arms, each in a process of its own, take turns: the
report, and what it cannot do without: reading both models, float64 Gram matrices of the differences and their
eigenvalues, side by side on as many threads. Peak memory is the largest resident size of the process, including
pages of the files that are mapped.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from idim.files import write_json

VOCABULARY, WIDTH, INNER, KEYS = 32_000, 2048, 5632, 256
LAYERS_A_SHARD = 4

# VmHWM is that of the process's own memory; ru_maxrss would begin with that of the process it was forked from
PEAK = """
def PEAK():
    lines = open("/proc/self/status").read().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("VmHWM"))
"""
REPORT = """
import sys, time
from idim.spectral.spectrum import spectrum
start = time.perf_counter()
found = spectrum(sys.argv[1], sys.argv[2], quiet=True)
print(time.perf_counter() - start, PEAK(), found.summary.whole.verdict)
"""
LEAST = """
import sys, time, json
from pathlib import Path
from safetensors import safe_open
import scipy.linalg
from idim.spectral.judgement.pool import in_order
folders = [Path(a) for a in sys.argv[1:3]]
index = json.loads((folders[0] / "model.safetensors.index.json").read_text())["weight_map"]
def work(name):
    base, tuned = (safe_open(f / index[name], "pt").get_tensor(name).double() for f in folders)
    change = tuned.sub_(base).numpy()
    change = change if change.shape[0] >= change.shape[1] else change.T
    scipy.linalg.eigvalsh(change.T @ change, check_finite=False)
start = time.perf_counter()
list(in_order(work, index))
print(time.perf_counter() - start, PEAK(), "")
"""


def shapes(layers: int) -> Iterator[dict[str, tuple[int, int]]]:
    """Yield the matrices of each shard."""
    yield {"model.embed_tokens.weight": (VOCABULARY, WIDTH)}
    for first in range(0, layers, LAYERS_A_SHARD):
        shard: dict[str, tuple[int, int]] = {}
        for layer in range(first, min(first + LAYERS_A_SHARD, layers)):
            head = f"model.layers.{layer}"
            shard |= {f"{head}.self_attn.{p}_proj.weight": (WIDTH, WIDTH) for p in "qo"}
            shard |= {f"{head}.self_attn.{p}_proj.weight": (KEYS, WIDTH) for p in "kv"}
            shard |= {f"{head}.mlp.{p}_proj.weight": (INNER, WIDTH) for p in ("gate", "up")}
            shard[f"{head}.mlp.down_proj.weight"] = (WIDTH, INNER)
        yield shard
    yield {"lm_head.weight": (VOCABULARY, WIDTH)}


def write_pair(folder: Path, layers: int, relative: float, rank: int) -> int:
    """Write the folders ``base`` and ``tuned``; return the number of parameters."""
    generator = torch.Generator().manual_seed(0)
    index: dict[str, str] = {}
    parameters = 0
    for number, shard in enumerate(shapes(layers)):
        name = f"model-{number:05d}.safetensors"
        base = {k: (0.02 * torch.randn(shape, generator=generator)).bfloat16() for k, shape in shard.items()}
        tuned = {k: (v.float() + _change(v, relative, rank, generator)).bfloat16() for k, v in base.items()}
        for model, tensors in (("base", base), ("tuned", tuned)):
            (folder / model).mkdir(exist_ok=True)
            save_file(tensors, folder / model / name)
        index |= dict.fromkeys(shard, name)
        parameters += sum(v.numel() for v in base.values())
    for model in ("base", "tuned"):
        write_json(folder / model / "model.safetensors.index.json", {"metadata": {}, "weight_map": index})
        write_json(folder / model / "config.json", {"architectures": ["LlamaForCausalLM"], "model_type": "llama"})
    return parameters


def _change(base: Tensor, relative: float, rank: int, generator: torch.Generator) -> Tensor:
    m, n = base.shape
    if rank:
        change = torch.randn(m, rank, generator=generator) @ torch.randn(rank, n, generator=generator)
    else:
        change = torch.randn(m, n, generator=generator)
    return change.mul_(relative * base.float().norm() / change.norm())


def arm(program: str, folder: Path) -> dict[str, Any]:
    """Run one arm in a process of its own; return its seconds and its peak resident size in GB."""
    command = [sys.executable, "-c", PEAK + program, str(folder / "base"), str(folder / "tuned")]
    done = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return {"seconds": float(done[0]), "peak_gb": float(done[1]) / 1e6, "verdict": " ".join(done[2:])}


def run(layers: int, relative: float, rank: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Return both arms, each round, and the ratio of their times."""
    parameters = write_pair(folder, layers, relative, rank)
    found = []
    for _ in range(rounds):
        found.append({"least": arm(LEAST, folder), "report": arm(REPORT, folder)})
        print(json.dumps(found[-1]), flush=True)
    ratios = sorted(f["report"]["seconds"] / f["least"]["seconds"] for f in found)
    return {
        "parameters": parameters,
        "relative": relative,
        "rank": rank or None,
        "threads": torch.get_num_threads(),
        "ratio": ratios[len(ratios) // 2],
        "peak_gb": max(f["report"]["peak_gb"] for f in found),
        "rounds": found,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=22)
    parser.add_argument("--relative", type=float, default=0.01)
    parser.add_argument("--rank", type=int, default=0, help="of the change; 0: independent entries")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        options = (arguments.layers, arguments.relative, arguments.rank, arguments.rounds)
        found = run(*options, Path(folder))
    print(f"{found['parameters']:,} parameters: {found['ratio']:.2f} x the time, peak {found['peak_gb']:.2f} GB")
    if arguments.out:
        write_json(arguments.out, found)


if __name__ == "__main__":
    main()
