"""Runs with methods on the weights of layers: their anatomy, and the same bits in every process."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from idim.runs import Processes, RunSpec, Serial, Store, run
from idim.tasks import Recipe

pytest.importorskip("peft")

SpecMaker = Callable[..., RunSpec]
RANK = 3
QUICK = Recipe(optimizer="adam", batch_size=32, steps=12)
WIDTHS = ((64, 16), (16, 8), (8, 10))  # inputs and outputs of the layers of mlp:16,8 on the digits


@pytest.fixture
def tuned(spec: SpecMaker) -> Callable[[str], RunSpec]:
    plain = dataclasses.replace(spec("digits", model="mlp:16,8", lr=1e-2), recipe=QUICK, anatomy=True)
    return lambda method: dataclasses.replace(plain, method=method)


@pytest.mark.parametrize("method", ["lora", "adalora", "qlora"])
def test_the_anatomy_of_a_low_rank_change_has_its_ranks(tuned: Callable[[str], RunSpec], method: str) -> None:
    if method == "qlora":
        pytest.importorskip("bitsandbytes")
    begin = RANK + 2 if method == "adalora" else RANK
    found = run(tuned(f"{method}:rank={RANK}" + (f",begin={begin}" if method == "adalora" else ""))).anatomy
    assert found is not None
    assert found["trained"] == begin * sum(map(sum, WIDTHS)) + (begin * len(WIDTHS) if method == "adalora" else 0)
    assert found["ranks"]["sum"] == RANK * len(WIDTHS)
    assert found["ranks"]["matrices"] == len(WIDTHS)
    assert found["ranks"]["undetermined"] == 0
    assert found["added"] == 0
    assert found["merges"]
    if method == "adalora":
        assert found["stored_bytes"] < 4 * found["trained"]
    else:
        assert found["ranks"]["max"] == RANK
        assert found["stored_bytes"] == 4 * found["trained"]


@pytest.mark.slow  # two processes import peft
def test_processes_give_the_bits_of_serial(tmp_path: Path, tuned: Callable[[str], RunSpec]) -> None:
    pytest.importorskip("bitsandbytes")
    specs = [tuned(name) for name in ("adalora:rank=2,begin=4", "qlora:rank=2", "unilora:d=50", "tinylora", "vera")]
    found = []
    for kind in (Serial, Processes):
        with Store(tmp_path / kind.__name__) as store, kind(store) as engine:
            found.append(engine.map(specs))
    assert found[0] == found[1]
    assert not any(outcome.failed for outcome in found[0].values())
