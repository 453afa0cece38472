"""Runs on digits that bounds are asked of, and a network from a file."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from idim import models, tasks
from idim.runs import RunSpec

TASK = tasks.load("digits")


def spec_of(d: int | None = 60, **changes: Any) -> RunSpec:
    content = {
        "task": "digits", "fingerprint": TASK.fingerprint, "model": "mlp:16", "method": "subspace",
        "projection": "hadamard", "d": d, "lr": 2.4 / math.sqrt(d or 1), "seed": 0,
        "recipe": dataclasses.replace(TASK.recipe, steps=200),
    }  # fmt: skip
    return RunSpec(**content | changes)


def full(**changes: Any) -> RunSpec:
    return spec_of(None, method="full", projection=None, lr=0.01, **changes)


NET = """
from torch import nn

def build(input_shape, outputs, generator):
    layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), {extra}nn.Linear(8, outputs))
    for p in layers.parameters():
        nn.init.normal_(p, std=0.2, generator=generator)
    return layers
"""


def user_net(tmp_path: Path, extra: str = "") -> str:
    (tmp_path / "net.py").write_text(NET.format(extra=extra))
    return models.resolve(f"{tmp_path / 'net.py'}:build")
