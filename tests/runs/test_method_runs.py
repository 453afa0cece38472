"""Methods in runs: names in specs, trainings, the curve, the anatomy, the same bits in every engine."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from text_cases import sentences, tiny_bert, write_csv

from idim import methods, tasks
from idim.errors import RequestError
from idim.models import resnet
from idim.models.init import generator
from idim.runs import Keep, Processes, RunResult, RunSpec, Serial, Store, anatomy, run, table
from idim.runs.curve import evaluation_steps, sample
from idim.runs.learner import attached, groups, network
from idim.runs.sweeps.grid import read_grid
from idim.tasks import Recipe

SpecMaker = Callable[..., RunSpec]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> RunSpec:
    """Return a quick run of a tiny BERT on made-up sentences."""
    folder = tmp_path_factory.mktemp("texts")
    write_csv(folder / "train.csv", sentences(120))
    task = tasks.load(f"csv:{folder / 'train.csv'}")
    recipe = Recipe(optimizer="adam", batch_size=16, steps=6, length=16, dropout=True)
    return RunSpec(
        task=task.name, fingerprint=task.fingerprint, model=str(tiny_bert(folder / "bert")), method="full", lr=1e-3,
        recipe=recipe, seed=0, head="trained", head_lr=1e-2,
    )  # fmt: skip


def with_method(spec: RunSpec, method: str, **changes: object) -> RunSpec:
    return dataclasses.replace(spec, method=method, **changes)  # type: ignore[arg-type]


# -- the spec ------------------------------------------------------------------------------------------


def test_a_method_is_kept_in_its_shortest_form(spec: SpecMaker) -> None:
    one = with_method(spec("digits"), "probe")
    assert one.key != spec("digits").key
    assert RunSpec.from_json(json.loads(json.dumps(one.to_json()))) == one
    assert with_method(one, methods.METHODS["probe"]().written()).key == one.key


def test_bad_methods_and_evaluations_are_one_line(spec: SpecMaker) -> None:
    for change, words in [
        ({"method": "subspac"}, "did you mean 'subspace'"),
        ({"method": "prob"}, "did you mean 'probe'"),
        ({"method": "probe", "d": 3}, "method 'probe' takes neither; received 'probe'"),
        ({"method": "probe:rank=3"}, "option of method 'probe'"),
        ({"evaluations": -1}, "evaluations must be from 0 to the number of steps, 40; received -1"),
        ({"evaluations": 41}, "received 41"),
        ({"evaluations": 1, "recipe": Recipe(optimizer="lbfgs", batch_size=0)}, "optimizer of single steps"),
    ]:
        with pytest.raises(RequestError, match=words):
            dataclasses.replace(spec(), **change)  # type: ignore[arg-type]


def test_later_fields_at_their_default_leave_keys_and_rows_as_they_were(spec: SpecMaker) -> None:
    one = spec()
    assert not {"evaluations", "anatomy"} & one.to_json().keys()
    assert dataclasses.replace(one, evaluations=3).key != one.key
    assert dataclasses.replace(one, anatomy=True).key != one.key
    result = run(one)
    assert not {"curve", "anatomy"} & result.to_json().keys()
    assert RunResult.from_json(json.loads(json.dumps(result.to_json()))) == result


# -- the training --------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["trained", "frozen", "inside"])
def test_full_as_a_method_is_full_training(texts: RunSpec, head: str) -> None:
    """The table of methods has a ``full`` of its own; it trains what a run without a method trains."""
    spec = dataclasses.replace(texts, head=head, head_lr=1e-2 if head == "trained" else None)  # type: ignore[arg-type]
    task = tasks.load(spec.task)
    bare = attached(spec, network(spec, task, None))
    model = network(spec, task, None)
    model.head.requires_grad_(head != "frozen")  # type: ignore[union-attr]
    other = methods.attach(methods.parse("full"), model, methods.Setting(seed=0, steps=6))
    from idim.runs.train import alone, fit

    losses = []
    for learned in (bare, other):
        with alone(spec.seed):
            losses.append(fit(spec, task, learned).loss)
    assert losses[0] == losses[1]
    for (name, one), (again, two) in zip(bare.module.named_parameters(), other.module.named_parameters(), strict=True):
        assert name == again
        assert torch.equal(one, two)


def test_the_head_and_a_method_have_rates_of_their_own(texts: RunSpec) -> None:
    spec = with_method(texts, "probe")
    learned = attached(spec, network(spec, tasks.load(spec.task), None))
    (head,) = groups(spec, learned)
    assert head.lr == 1e-2
    assert sum(p.numel() for p in head.parameters) == 2 * 17
    result = run(spec)
    assert result.trained == 2 * 17


def test_a_method_that_has_no_place_is_a_failed_run_and_no_sweep(tmp_path: Path, spec: SpecMaker) -> None:
    from idim.runs.sweeps.check import Shop

    one = with_method(spec("digits", model="mlp:9"), "probe")
    with pytest.raises(RequestError, match="a module named 'head'"):
        Shop(None).check(one)
    with Store(tmp_path) as store, Serial(store) as engine:
        assert "a module named 'head'" in engine.map([one])[one.key].message


def test_processes_give_the_bits_of_serial(tmp_path: Path, texts: RunSpec) -> None:
    names = ("lora:rank=2", "bitfit+prompt", "random_mask", "did:d=30")
    sweep = [with_method(texts, name, evaluations=2, anatomy=True) for name in names]
    with Store(tmp_path / "serial") as store, Serial(store) as engine:
        expected = engine.map(sweep)
        assert [store.get(one) for one in sweep] == list(expected.values())
    assert not any(outcome.failed for outcome in expected.values())
    with Store(tmp_path / "processes") as store, Processes(store, workers=1) as engine:
        assert engine.map(sweep) == expected
        assert [store.get(one) for one in sweep] == list(expected.values())


# -- the curve -----------------------------------------------------------------------------------------


def test_the_curve_changes_no_number_of_the_training(texts: RunSpec) -> None:
    without, result = run(texts), run(dataclasses.replace(texts, evaluations=4))
    assert dataclasses.replace(result, curve=()) == without
    assert [step for step, _ in result.curve] == [2, 3, 4, 6]
    assert result.curve[-1][1] == result.selection_score, "few rows: all of them are used"


def test_steps_of_a_curve_are_even_and_end_at_the_end(spec: SpecMaker) -> None:
    assert evaluation_steps(dataclasses.replace(spec(), evaluations=4)) == [10, 20, 30, 40]
    assert evaluation_steps(dataclasses.replace(spec(), evaluations=40)) == list(range(1, 41))
    assert evaluation_steps(spec()) == []


def test_a_curve_looks_at_512_rows_that_are_the_same_for_all(spec: SpecMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    task = tasks.load("digits")
    monkeypatch.setattr("idim.runs.curve.ROWS", 50)
    one, other = sample(spec("digits"), task), sample(spec("digits", seed=1, lr=0.5), task)
    assert len(one) == len(one.inputs) == 50
    assert torch.equal(one.inputs, other.inputs)
    assert torch.equal(one.targets, other.targets)
    everything = {row.numpy().tobytes() for row in task.selection.inputs}
    assert {row.numpy().tobytes() for row in one.inputs} <= everything
    assert len({row.numpy().tobytes() for row in one.inputs}) > 45


# -- the anatomy ---------------------------------------------------------------------------------------


def test_the_anatomy_of_full_training_and_of_a_subspace(spec: SpecMaker) -> None:
    small = {"model": "mlp:40", "steps": 30}
    full = run(dataclasses.replace(spec("digits", lr=1e-3, **small), anatomy=True)).anatomy
    assert full is not None
    D = 64 * 40 + 40 + 40 * 10 + 10
    assert (full["trained"], full["stored_bytes"], full["added"]) == (D, 4 * D, 0)
    assert 0.99 * D < full["changed"] <= D
    assert full["merges"]
    assert full["through"]
    assert full["ranks"]["matrices"] == 2
    inside = run(dataclasses.replace(spec("digits", d=20, lr=0.05, **small), anatomy=True)).anatomy
    assert inside is not None
    assert (inside["trained"], inside["stored_bytes"]) == (20, 80)
    assert inside["changed"] > 0.9 * D


def test_a_probe_changes_nothing_but_the_head(texts: RunSpec) -> None:
    assert run(with_method(texts, "probe", anatomy=True)).anatomy == {
        "trained": 0, "added": 0, "stored_bytes": 0, "merges": True, "through": False, "changed": 0, "buffers": 0,
        "ranks": {
            "sum": 0, "median": None, "max": None, "matrices": 15, "low_rank": 0, "full_rank": 0, "unchanged": 15,
            "undetermined": 0,
        },
    }  # fmt: skip


def test_tensors_are_kept_under_the_base_s_names(tmp_path: Path, texts: RunSpec) -> None:
    for name in ("full", "probe"):
        spec, keep = with_method(texts, name), Keep(folder=tmp_path, steps=(3,))
        assert run(spec, keep=keep) == run(spec)
        assert keep.complete(spec)
        base, tuned = (load_file(keep.path(spec) / f"{part}.safetensors") for part in ("base", "tuned"))
        assert base.keys() == tuned.keys()
        moved = {key for key in base if not torch.equal(base[key], tuned[key])}
        assert moved >= {"head.weight", "head.bias"}
        assert (moved == {"head.weight", "head.bias"}) == (name == "probe")


def test_the_counts_of_each_group(texts: RunSpec) -> None:
    """Trained, changed, added and the rank of the difference, each where its definition puts it."""

    def counts(name: str) -> Mapping[str, Any]:
        found = run(with_method(texts, name, anatomy=True)).anatomy
        assert found is not None
        return found

    lora = counts("lora:rank=2")
    assert (lora["ranks"]["max"], lora["ranks"]["median"], lora["ranks"]["low_rank"]) == (2, 2, 12)
    assert lora["ranks"]["sum"] == 2 * 12
    assert (lora["ranks"]["unchanged"], lora["added"]) == (3, 0)
    assert lora["stored_bytes"] == 4 * lora["trained"] < 4 * lora["changed"]
    biases = counts("bitfit")
    assert biases["trained"] >= biases["changed"] > 0.8 * biases["trained"]
    assert biases["ranks"]["unchanged"] == biases["ranks"]["matrices"] == 15
    adapter = counts("adapter:width=4")
    assert (adapter["changed"], adapter["merges"], adapter["ranks"]) == (0, False, None)
    assert adapter["added"] == adapter["trained"]
    both = counts("adapter:width=4+bitfit")
    assert (both["added"], both["changed"], both["ranks"]) == (adapter["added"], biases["changed"], None)
    assert both["trained"] == adapter["trained"] + biases["trained"]


def test_running_statistics_are_counted_apart(spec: SpecMaker) -> None:
    base = resnet.ResNet(8, 10)
    resnet._draw(base, generator(0, "tests/anatomy"))
    before = anatomy.body_state(base)
    learned = methods.attach(methods.parse("bitfit"), base, methods.Setting(seed=0, steps=1))
    base.train()
    base(torch.rand(4, 3, 32, 32, generator=generator(0, "tests/pixels")))
    found = anatomy.changes(before, anatomy.plain(methods.parse("bitfit"), learned), merges=True)
    statistics = sum(b.numel() for n, b in base.named_buffers() if "running" in n)
    assert (found["changed"], found["buffers"], found["buffer_bytes"]) == (0, statistics, 4 * statistics)


# -- grids and tables ----------------------------------------------------------------------------------


def test_a_grid_may_have_methods_and_a_table_their_columns(tmp_path: Path, texts: RunSpec) -> None:
    (tmp_path / "grid.yaml").write_text(
        f"task: {json.dumps(texts.task)}\nmodel: {json.dumps(texts.model)}\nmethod: [lora, bitfit]\nlr: 1e-3\n"
        "recipe: {steps: 2, batch_size: 8, length: 16}\nevaluations: 2\nanatomy: true\n"
    )
    specs = read_grid(tmp_path / "grid.yaml", (), None).specs
    assert [(s.method, s.evaluations, s.anatomy) for s in specs] == [("lora", 2, True), ("bitfit", 2, True)]
    with Store(tmp_path / "store") as store, Serial(store) as engine:
        outcomes = engine.map(specs)
    rows = {row["spec.method"]: row for row in table.read([tmp_path / "store"]).to_pylist()}
    for outcome in outcomes.values():
        row, result = rows[outcome.spec.method], outcome.result
        assert result is not None
        assert json.loads(row["result.curve"]) == [list(point) for point in result.curve]
        assert row["result.anatomy.ranks.max"] == result.anatomy["ranks"]["max"]  # type: ignore[index]
    table.write(table.read([tmp_path / "store"]), tmp_path / "runs.csv")
    (tmp_path / "wrong.yaml").write_text("task: digits\nmodel: mlp:9\nmethod: norm\nlr: 1\n")
    with pytest.raises(RequestError, match="method 'norm' looks for normalisation layers"):
        read_grid(tmp_path / "wrong.yaml", (), None)
