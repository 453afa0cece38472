"""Runs that do not fit into memory: a failed row that says what to change, and the others go on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from text_cases import sentences, tiny_bert, write_csv

from idim import models, tasks
from idim.runs import Engine, Processes, RunSpec, Serial, Store
from idim.runs.worker import serve
from idim.tasks import Recipe

HUNGRY = """
import torch
from torch import nn

class Hungry(nn.Module):
    \"\"\"Takes memory for the square of the batch, as a network of quadratic cost would, ten terabytes a row.\"\"\"

    def __init__(self, features, outputs, generator):
        super().__init__()
        self.layer = nn.Linear(features, outputs)

    def forward(self, x):
        if len(x) == 64:
            torch.empty(len(x), len(x), 10**13)
        return self.layer(x.flatten(1))

def build(input_shape, outputs, generator):
    return Hungry(64, outputs, generator)
"""


@pytest.fixture
def specs(tmp_path: Path) -> list[RunSpec]:
    """Return the specs of three runs, the second of which asks for more memory than there is."""
    (tmp_path / "net.py").write_text(HUNGRY)
    task, model = tasks.load("digits"), models.resolve(f"{tmp_path / 'net.py'}:build")
    return [
        RunSpec(
            task="digits", fingerprint=task.fingerprint, model=model, method="full", lr=0.01, seed=0,
            recipe=Recipe(batch_size=size, steps=2, accumulate=1),
        )
        for size in (16, 64, 32)
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["serial", "processes"])
def test_a_real_allocator_that_refuses_makes_a_failed_row_and_the_rest_goes_on(
    specs: list[RunSpec], tmp_path: Path, kind: str
) -> None:
    with Store(tmp_path / "store") as store:
        engine: Engine = Serial(store) if kind == "serial" else Processes(store, workers=1)
        with engine:
            outcomes = list(engine.map(specs).values())
        assert [outcome.failed for outcome in outcomes] == [False, True, False]
        assert outcomes[1].passing
        failed = {
            row["spec"]["recipe"]["batch_size"]: row["message"] for row in store.rows() if row["status"] == "failed"
        }
    assert list(failed) == [64]
    assert "can't allocate memory" in failed[64]
    assert "(batch of 64 rows: lower --batch or --length, or raise --accumulate)" in failed[64]
    assert "\n" not in failed[64]


def test_batch_and_length_of_texts_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    tiny_bert(tmp_path / "bert")
    task = tasks.load(f"csv:{write_csv(tmp_path / 't.csv', sentences(60))}")  # type: ignore[arg-type]
    spec = RunSpec(
        task=task.name, fingerprint=task.fingerprint, model=models.resolve(str(tmp_path / "bert")), method="full",
        lr=0.01, seed=0, recipe=Recipe(batch_size=8, steps=2, length=24, accumulate=2),
    )  # fmt: skip

    def refuse(*_: object, **__: object) -> None:
        torch.empty(10**17)

    monkeypatch.setattr("torch.nn.functional.layer_norm", refuse)
    answer = serve({"spec": spec.to_json(), "data": None})
    assert answer["passing"]
    assert answer["failed"].endswith(
        "(batch of 8 rows of texts cut at 24 tokens in 2 parts: lower --batch or --length, or raise --accumulate)"
    )


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:75] data. DefaultCPUAllocator: not enough memory: you tried"),
    ],
)
def test_every_way_of_saying_so_is_understood(
    specs: list[RunSpec], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("idim.runs.engine.train", refuse)
    answer = serve({"spec": specs[0].to_json(), "data": None})
    assert answer["passing"]
    assert "(batch of 16 rows: lower" in answer["failed"]


def test_another_failure_is_for_good(specs: list[RunSpec], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr("idim.runs.engine.train", refuse)
    assert serve({"spec": specs[0].to_json(), "data": None}) == {
        "failed": "RuntimeError: shapes do not match",
        "passing": False,
    }
