"""Is the change low-rank? Trains what the spectra are taken of: full, LoRA and subspace twins, and nulls.

    python -m experiments.spectra train     # what the store and the folder of weights lack
    python -m experiments.spectra judge     # a report for each, into experiments/results/spectra/
                                            # (pictures and tables of singular values: into the folder of weights)

Networks: all-MiniLM-L6 on three text tasks and ResNet-20 on MNIST, each with two seeds, each tuned in full,
through a Hadamard subspace of two sizes, and MiniLM with LoRA (:mod:`experiments.lora_twin`). Beside each
fully tuned network stand two nulls, the base with normal noise of the same norm in every tensor and the base
rounded to bfloat16, and what became of the tuned one when it was stored in bfloat16. Scores and specs are in
the store ``experiments/spectra_store``; weights are large and stay in the folder ``--weights``, where a
second ``train`` makes those that are missing.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from experiments.lora_twin import lora_twin
from idim import tasks
from idim.errors import RequestError
from idim.files import replace_file
from idim.runs import Keep, Processes, RunSpec, Serial, Store
from idim.runs.artifacts import BASE, TUNED
from idim.spectral.spectrum import spectrum

HERE = Path(__file__).parent
STORE, RESULTS = HERE / "spectra_store", HERE / "results" / "spectra"
WEIGHTS = Path("idim-out") / "spectra"
TEXTS, IMAGES = ("rotten_tomatoes", "trec", "mrpc"), ("mnist",)
SEEDS = (0, 1)
STEPS = 200
CHECKPOINTS = (5, 10, 25, 50, 100, STEPS)  # of the first task and seed
FULL_LR, SPEED, HEAD_LR = 1e-4, 1.0, 1e-3  # SPEED / sqrt(d) is the rate in a subspace
DIMS = (1000, 10_000)
NULLS = ("noise", "rounded", "halved")
PICTURES = {f"rotten_tomatoes/{arm}-0" for arm in ("full", "lora", "subspace1000", *NULLS)} | {"mnist/full-0"}


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One tuned network: its label, such as ``trec/full-0``, and its run."""

    label: str
    spec: RunSpec


def arms() -> list[Arm]:
    """Return every run of the experiment, the first seeds first."""
    return [Arm(label=f"{s.task}/{_method(s)}-{s.seed}", spec=s) for seed in SEEDS for s in _specs(seed)]


def _specs(seed: int) -> Iterator[RunSpec]:
    for name in TEXTS + IMAGES:
        task = tasks.load(name)
        image = name in IMAGES
        full = RunSpec(
            task=task.name,
            fingerprint=task.fingerprint,
            model="resnet20" if image else "minilm",
            method="full",
            lr=10 * FULL_LR if image else FULL_LR,
            recipe=dataclasses.replace(task.recipe, steps=STEPS, batch_size=64 if image else 16),
            seed=seed,
            head="trained",
            head_lr=HEAD_LR,
        )
        yield full
        for d in DIMS:
            yield dataclasses.replace(full, method="subspace", projection="hadamard", d=d, lr=SPEED * d**-0.5)


def _method(spec: RunSpec) -> str:
    return "full" if spec.d is None else f"subspace{spec.d}"


def train(weights: Path, workers: int) -> None:
    """Train every arm and twin, and make the nulls."""
    every = arms()
    growing = every[0].spec
    with Store(STORE) as store:
        for specs, steps in (([growing], CHECKPOINTS), ([arm.spec for arm in every], ())):
            keep = Keep(folder=weights / "runs", steps=steps)
            kind = Serial(store, keep=keep) if workers < 2 else Processes(store, workers=workers, keep=keep)
            with kind as engine:
                engine.map(specs, progress=lambda outcome: print(outcome.spec.task, outcome, flush=True))
    for arm in every:
        if arm.spec.method == "full":
            _nulls(weights, arm.spec)
            if arm.spec.task in TEXTS:
                row = lora_twin(arm.spec, weights / "lora" / arm.spec.key)
                print(arm.spec.task, f"lora seed={arm.spec.seed} score={row['score']:.4f}", flush=True)


def _nulls(weights: Path, spec: RunSpec) -> None:
    folder, nulls = Keep(folder=weights / "runs").path(spec), weights / "nulls" / spec.key
    if all((nulls / f"{name}.safetensors").is_file() for name in NULLS):
        return
    nulls.mkdir(parents=True, exist_ok=True)
    base, tuned = load_file(folder / BASE), load_file(folder / TUNED)
    generator = torch.Generator().manual_seed(spec.seed)
    noise = {}
    for name, start in base.items():
        if not start.is_floating_point():
            noise[name] = start
            continue
        draw = torch.randn(start.shape, generator=generator)
        noise[name] = start + draw * ((tuned[name] - start).norm() / draw.norm().clamp(min=1e-30))
    rounded = {name: tensor.to(start.dtype) for (name, tensor), start in zip(_halved(base), base.values(), strict=True)}
    for name, tensors in zip(NULLS, (noise, rounded, dict(_halved(tuned))), strict=True):
        with replace_file(nulls / f"{name}.safetensors") as temporary:
            save_file(tensors, temporary)


def _halved(tensors: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors.items():
        yield name, tensor.bfloat16() if tensor.is_floating_point() else tensor


def judge(weights: Path) -> None:
    """Write the report of every arm, twin and null into ``experiments/results/spectra/``."""
    for number, arm in enumerate(arms()):
        folder = Keep(folder=weights / "runs").path(arm.spec)
        _report(folder / BASE, folder / TUNED, arm.label, weights, over=None if number else folder)
        if arm.spec.method == "full":
            for name in NULLS:
                null = weights / "nulls" / arm.spec.key / f"{name}.safetensors"
                _report(folder / BASE, null, arm.label.replace("full", name), weights)
            if arm.spec.task in TEXTS:
                twin, label = weights / "lora" / arm.spec.key, arm.label.replace("full", "lora")
                _report(folder / BASE, twin / "adapter", label, weights)
                shutil.copyfile(twin / "run.json", RESULTS / label / "run.json")


def _report(base: Path, tuned: Path, label: str, weights: Path, over: Path | None = None) -> None:
    report = spectrum(base, tuned, over=over, quiet=True)
    whole = report.save(weights / "reports" / label)
    kept = RESULTS / label
    kept.mkdir(parents=True, exist_ok=True)
    for name in ("report.json", *(["spectrum.png"] if label in PICTURES else [])):
        shutil.copyfile(whole / name, kept / name)
    print(f"== {label}\n{report}\n", flush=True)


def main() -> None:
    """Train or judge, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "judge"))
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder for tensors, several gigabytes")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    try:
        if arguments.what == "train":
            train(arguments.weights, arguments.workers)
        else:
            judge(arguments.weights)
    except RequestError as error:
        print(f"experiments: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
