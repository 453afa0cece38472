"""Methods in runs: names in specs, trainings, the curve, the anatomy, the same bits in every engine."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from text_cases import sentences, tiny_bert, write_csv

from idim import methods, tasks
from idim.errors import RequestError
from idim.runs import Keep, Processes, RunResult, RunSpec, Serial, Store, run
from idim.runs.curve import evaluation_steps, sample
from idim.runs.learner import attached, groups, network
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
    sweep = [with_method(texts, name, evaluations=2, anatomy=True) for name in ("full", "probe")]
    found = []
    for kind in (Serial, Processes):
        with Store(tmp_path / kind.__name__) as store, kind(store) as engine:
            found.append(engine.map(sweep))
            assert [store.get(one) for one in sweep] == list(found[-1].values())
    assert found[0] == found[1]
    assert not any(outcome.failed for outcome in found[0].values())


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
    anatomy = run(with_method(texts, "probe", anatomy=True)).anatomy
    assert anatomy == {
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
