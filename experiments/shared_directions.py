"""Do two trainings change the same directions? Seeds, LoRA and other tasks beside full tuning.

    python -m experiments.shared_directions         # after: python -m experiments.spectra train

The eight leading directions of every matrix's change are compared with those of another change, and with
what random directions share (:mod:`idim.spectral.comparison.compare`). Summaries go to
``experiments/results/spectra/shared.json``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from experiments.spectra import RESULTS, TEXTS, WEIGHTS, arms
from idim.files import write_json
from idim.runs import Keep
from idim.runs.artifacts import BASE, TUNED
from idim.spectral.spectrum import spectrum

BODY = "encoder.*"  # heads differ between tasks and seeds


def pairs(weights: Path) -> Iterator[tuple[str, Path, Path, Path]]:
    """Yield a label, the base, one tuned model and another."""
    specs, keep = {arm.label: arm.spec for arm in arms()}, Keep(folder=weights / "runs")
    for task in TEXTS:
        one, other = (keep.path(specs[f"{task}/full-{seed}"]) for seed in (0, 1))
        yield f"{task}: another seed", one / BASE, one / TUNED, other / TUNED
        yield f"{task}: LoRA", one / BASE, one / TUNED, weights / "lora" / one.name / "adapter"
        narrow = keep.path(specs[f"{task}/subspace10000-0"])
        yield f"{task}: subspace, d = 10,000", one / BASE, one / TUNED, narrow / TUNED
    first, second = (keep.path(specs[f"{task}/full-0"]) for task in TEXTS[:2])
    yield f"{TEXTS[0]}: {TEXTS[1]}", first / BASE, first / TUNED, second / TUNED


def main() -> None:
    """Compare all pairs, and write and print their summaries."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder for tensors")
    found = {}
    for label, base, tuned, other in pairs(parser.parse_args().weights):
        report = spectrum(base, tuned, against=other, include=BODY, quiet=True)
        found[label] = report.to_json()["comparison"]["summary"]
        print(label, found[label], flush=True)
    write_json(RESULTS / "shared.json", found)


if __name__ == "__main__":
    main()
