from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from idim import tasks
from idim.runs import RunSpec
from idim.tasks import Recipe


@pytest.fixture
def spec() -> Callable[..., RunSpec]:
    """Return a maker of quick specs; the toy with Adam unless said otherwise."""

    def make(
        task: str = "toy", *, lr: float = 0.02, seed: int = 0, model: str | None = None, **changes: object
    ) -> RunSpec:
        loaded = tasks.load(task)
        recipe = Recipe(batch_size=0, steps=40, precision="float64") if task == "toy" else loaded.recipe
        inside = {k: v for k, v in changes.items() if k not in ("d", "projection", "method")}
        outside = {k: v for k, v in changes.items() if k not in inside}
        if "d" in outside:
            outside = {"method": "subspace", "projection": "uniform"} | outside
        return RunSpec(
            task=loaded.name,
            fingerprint=loaded.fingerprint,
            model=model or loaded.default_model,
            lr=lr,
            seed=seed,
            recipe=dataclasses.replace(recipe, **inside),  # type: ignore[arg-type]
            **({"method": "full"} | outside),  # type: ignore[arg-type]
        )

    return make
