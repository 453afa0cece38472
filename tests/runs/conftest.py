from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from idim import tasks
from idim.runs import RunSpec, child
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


PUPPET = """
import json, os, signal, sys, time
for line in sys.stdin:
    request = json.loads(line)
    spec = request["spec"]
    if spec["lr"] == 0.125:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(3600 if spec["recipe"]["steps"] == 10**6 else 1e-3 * (spec["seed"] % 7))
    score = spec["seed"] / 3
    result = dict(score=score, selection_score=score, train_loss=0.1, D=1, trained=1, steps=1, seconds=time.time())
    answer = {"refused": "no data"} if spec["task"] == "mnist" else {"failed": "bad luck"}
    print(json.dumps({"result": result} if spec["task"] == "toy" and spec["lr"] < 1 else answer), flush=True)
"""


@pytest.fixture
def puppets(monkeypatch: pytest.MonkeyPatch) -> str:
    """Replace workers by quick ones that speak the protocol and train nothing; return their program.

    A learning rate of 1/8 kills them, 10**6 steps take them an hour, the task mnist has no data, and
    from lr = 1 on a run fails.
    """
    monkeypatch.setattr(child, "WORKER", ("-I", "-S", "-c", PUPPET))
    return PUPPET
