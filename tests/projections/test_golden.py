"""Golden values: one seed gives one P, on every machine and in every later version of the same kind.

``golden.json`` holds a few numbers of P z and Pᵀ g for each kind, in float64. A change of them is a change of P:
it must raise the kind's ``version``; ``PYTHONPATH=tests python tests/projections/test_golden.py`` writes the file anew.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from cases import NAMES

from idim.projections import create

FILE = Path(__file__).with_name("golden.json")
D, d, SEED = 3000, 40, 2018
SEEDED = [name for name in NAMES if not name.startswith("basis")]  # a basis is a file, not a seed
KINDS = [*SEEDED, "layerwise:hadamard", "layerwise:fastfood"]
ROWS = [0, 1, 31, 32, 1023, 1024, 2047, 2999]
COORDINATES = [0, 1, 17, 31, 32, 39]


def values(name, device="cpu"):
    """Return what is compared: the version, and some entries of the map and of its gradient."""
    P = create(name, D=D, d=d, seed=SEED, layers=(100, 1900, 1000))
    z = torch.arange(1, d + 1, dtype=torch.float64, device=device) / d
    g = torch.cos(torch.arange(D, dtype=torch.float64)).to(device)
    lifted, pulled = P.matvec(z), P.vjp(z, g)
    return {"version": P.version, "lifted": lifted[ROWS].tolist(), "pulled": pulled[COORDINATES].tolist()}


@pytest.mark.parametrize("name", KINDS)
def test_the_seed_still_gives_the_same_map(name):
    golden, found = json.loads(FILE.read_text())[name], values(name)
    assert found["version"] == golden["version"]
    # tables of quantiles and square roots may differ in the last bit of float32 between libraries
    assert found["lifted"] == pytest.approx(golden["lifted"], rel=1e-6, abs=1e-9)
    assert found["pulled"] == pytest.approx(golden["pulled"], rel=1e-6, abs=1e-8)


if __name__ == "__main__":
    FILE.write_text(json.dumps({name: values(name) for name in KINDS}, indent=1) + "\n")
    sys.stdout.write(f"wrote {FILE}\n")
