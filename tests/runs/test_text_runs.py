from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from text_cases import sentences, tiny_bert, write_csv

from idim import models, tasks
from idim.errors import RequestError
from idim.runs import Keep, Processes, RunSpec, Serial, Store, run
from idim.runs.learner import head_parameters, learner, network
from idim.runs.optimize import batches, decay
from idim.runs.rows import rows_of, training_rows
from idim.tasks import Recipe, Split

pytest.importorskip("transformers")
Maker = Callable[..., RunSpec]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a small encoder and a table of texts."""
    folder = tmp_path_factory.mktemp("texts")
    tiny_bert(folder / "bert")
    write_csv(folder / "texts.csv", sentences(300))  # type: ignore[arg-type]
    return folder


@pytest.fixture(scope="module")
def make(place: Path) -> Maker:
    """Return a maker of specs of the small encoder on the texts."""
    task, name = tasks.load(f"csv:{place / 'texts.csv'}"), models.resolve(str(place / "bert"))
    recipe = Recipe(optimizer="adamw", batch_size=16, steps=6, length=32)

    def spec(*, lr: float = 1e-2, head: str = "trained", head_lr: float | None = None, **changes: object) -> RunSpec:
        inside = {k: changes.pop(k) for k in list(changes) if k in {f.name for f in dataclasses.fields(Recipe)}}
        what = {"projection": "hadamard"} if changes.get("method") == "subspace" else {"method": "full"}
        return RunSpec(
            task=task.name, fingerprint=task.fingerprint, model=name, lr=lr, seed=0, head=head, head_lr=head_lr,
            recipe=dataclasses.replace(recipe, **inside), **(what | changes),  # type: ignore[arg-type]
        )  # fmt: skip

    return spec


def trained(spec: RunSpec, folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return the tensors before and after a run."""
    keep = Keep(folder=folder)
    run(spec, keep=keep)
    base, tuned = (load_file(keep.path(spec) / name) for name in keep.names(spec))
    return base, tuned


@pytest.mark.parametrize(
    ("head", "method", "head_moves"),
    [("inside", "full", True), ("trained", "full", True), ("frozen", "full", False),
     ("inside", "subspace", True), ("trained", "subspace", True), ("frozen", "subspace", False)],
)  # fmt: skip
def test_the_head_moves_unless_it_is_frozen(
    make: Maker, tmp_path: Path, head: str, method: str, head_moves: bool
) -> None:
    spec = make(head=head, method=method, **({"d": 5} if method == "subspace" else {}))
    base, tuned = trained(spec, tmp_path)
    assert torch.equal(base["head.weight"], tuned["head.weight"]) != head_moves
    layer = "encoder.layer.0.output.dense.weight"
    assert not torch.equal(base[layer], tuned[layer])


def test_what_is_counted_as_trained(make: Maker) -> None:
    head, body = 2 * 17, run(make(head="frozen")).trained
    assert run(make()).trained == body + head
    for where, trained in (("inside", 7), ("trained", 7 + head), ("frozen", 7)):
        assert run(make(head=where, method="subspace", d=7, lr=0.1)).trained == trained


def test_the_base_is_the_pretrained_network_and_names_are_its_own(make: Maker, place: Path, tmp_path: Path) -> None:
    base, tuned = trained(make(), tmp_path)
    stored = load_file(place / "bert" / "model.safetensors")
    shared = {name for name in stored if "pooler" not in name}
    assert set(base) == set(tuned) == shared | {"head.weight", "head.bias"}
    assert all(torch.equal(base[name], stored[name]) for name in shared)


def test_the_head_has_its_own_rate_in_both_arms(make: Maker) -> None:
    for changes in ({}, {"method": "subspace", "d": 5}):
        spec = make(head_lr=0.5, **changes)
        task = tasks.load(spec.task)
        module = learner(spec, network(spec, task, None))
        assert sum(p.numel() for p in head_parameters(spec, module)) == 2 * 17
    still, moving = (run(make(method="subspace", d=2, lr=1e-9, head_lr=rate, steps=30)) for rate in (1e-9, 0.1))
    assert moving.train_loss < still.train_loss


def test_a_run_is_a_function_of_its_spec(make: Maker) -> None:
    spec = make(method="subspace", d=20, lr=0.1, bucketed=True, warmup=0.2, steps=8)
    torch.rand(3)
    assert run(spec) == run(spec)


def test_training_on_these_texts_works(make: Maker) -> None:
    assert run(make(steps=80, lr=1e-2, bucketed=True, warmup=0.1)).score > 0.9


def test_a_batch_in_parts_takes_the_same_steps(make: Maker, tmp_path: Path) -> None:
    """Sums are taken in another order, so float64 agrees to its round-off and no further."""
    whole, parts = (
        trained(make(precision="float64", accumulate=n, optimizer="sgd", lr=0.1), tmp_path)[1] for n in (1, 5)
    )
    for name in whole:
        torch.testing.assert_close(whole[name], parts[name], rtol=1e-9, atol=1e-11)


def test_bfloat16_rounds_the_network_but_neither_z_nor_the_head(make: Maker) -> None:
    spec = make(precision="bfloat16", method="subspace", d=10, lr=0.1)
    module = learner(spec, network(spec, tasks.load(spec.task), None))
    dtypes = {name: p.dtype for name, p in module.named_parameters()}
    assert dtypes["z"] == dtypes["model.head.weight"] == torch.float32
    assert dtypes["theta0.0"] == torch.bfloat16
    assert run(spec).steps == 6


def test_values_are_learned_by_their_squared_error(place: Path, tmp_path: Path) -> None:
    rows = [(text, label + 0.5 * len(text.split())) for text, label in sentences(300)]
    task = tasks.load(f"csv:{write_csv(tmp_path / 'v.csv', rows)}")  # type: ignore[arg-type]
    recipe = Recipe(optimizer="adamw", batch_size=16, steps=120, length=32)
    spec = RunSpec(
        task=task.name, fingerprint=task.fingerprint, model=models.resolve(str(place / "bert")), method="full",
        lr=1e-2, recipe=recipe, seed=0,
    )  # fmt: skip
    assert task.metric == "spearman"
    assert run(spec).score > 0.7


# -- rows ---------------------------------------------------------------------------------------------


def test_texts_are_tokenised_once(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make(length=13)
    task = tasks.load(spec.task)
    first = rows_of(spec, task.train)
    monkeypatch.setattr(models, "encode", None)
    assert rows_of(spec, task.train).inputs is first.inputs
    assert first.lengths is not None
    assert len(first.lengths) == len(task.train)


def test_selection_texts_join_the_training_texts(make: Maker) -> None:
    spec = make(train_on="train+selection")
    task = tasks.load(spec.task)
    rows = training_rows(spec, task)
    assert len(rows) == len(task.train) + len(task.selection) == len(rows.inputs)
    texts = task.selection.inputs
    assert isinstance(texts, tasks.Texts)
    alone = rows_of(spec, Split(inputs=texts, targets=task.selection.targets))
    width = alone.inputs.shape[1]
    assert torch.equal(rows.inputs[len(task.train) :, :width], alone.inputs)


def test_bucketed_batches_hold_every_row_of_an_epoch_and_differ_less_in_length() -> None:
    lengths = torch.randint(1, 60, (1000,), generator=torch.Generator().manual_seed(0))
    spread = {}
    for bucketed in (True, False):
        recipe = Recipe(batch_size=10, steps=200, bucketed=bucketed)
        parts = [
            p for p in batches(1000, recipe, torch.Generator().manual_seed(1), lengths) if isinstance(p, torch.Tensor)
        ]
        for epoch in (parts[:100], parts[100:]):
            assert torch.cat(epoch).sort().values.tolist() == list(range(1000))
        spread[bucketed] = sum(float(lengths[p].double().std()) for p in parts)
        lengthening = [int(lengths[p].max()) for p in parts[:30]]
        assert lengthening != sorted(lengthening), "batches of one pool come in random order"
    assert spread[True] < 0.2 * spread[False]


def test_the_rate_rises_before_it_falls() -> None:
    rates = [decay(Recipe(steps=100, warmup=0.2), step) for step in range(100)]
    assert rates[:20] == pytest.approx([(k + 1) / 21 for k in range(20)])
    assert rates[20] == 1
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[60] == pytest.approx(0.5)
    assert decay(Recipe(schedule="constant", warmup=0.1, steps=100), 99) == 1


# -- tensors of runs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["serial", "processes"])
def test_an_engine_keeps_tensors_and_neither_key_nor_score_change(make: Maker, tmp_path: Path, kind: str) -> None:
    spec = make()
    expected = run(spec)
    with Store(tmp_path / "store") as store:
        keep = Keep(folder=store.path / "artifacts", steps=(2, 6, 99))
        engine = Serial(store, keep=keep) if kind == "serial" else Processes(store, workers=1, keep=keep)
        with engine:
            outcome = engine.map([spec])[spec.key]
        assert outcome.result == expected
        assert keep.path(spec) == store.artifacts(spec)
        names = ["base.safetensors", "step-000002.safetensors", "step-000006.safetensors", "tuned.safetensors"]
        assert sorted(p.name for p in keep.path(spec).iterdir()) == names
        layer = "encoder.layer.1.attention.self.query.weight"
        values = [load_file(keep.path(spec) / name)[layer] for name in names]
        moved = [float((v - values[0]).norm()) for v in values]
        assert 0 == moved[0] < moved[1] < moved[2] == moved[3]


def test_missing_tensors_are_made_again_and_present_ones_are_not(
    make: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from idim.runs import serial

    spec = make()
    with Store(tmp_path / "store") as store:
        with Serial(store) as plain:
            first = plain.map([spec])[spec.key]
        keep = Keep(folder=store.path / "artifacts")
        with Serial(store, keep=keep) as engine:
            again = engine.map([spec])[spec.key]
            assert again.result == first.result
            assert keep.complete(spec)
            assert [(row["status"], row["attempt"]) for row in store.rows()] == [("done", 1)]
            monkeypatch.setattr(serial, "attempt", None)
            assert engine.map([spec])[spec.key].result == first.result
            (keep.path(spec) / "tuned.safetensors").unlink()
            assert not keep.complete(spec)


def test_steps_to_keep_are_checked() -> None:
    with pytest.raises(RequestError, match="steps to keep must be at least 1; received 0"):
        Keep(folder=Path("x"), steps=(3, 0))


# -- what is refused ----------------------------------------------------------------------------------


def test_a_head_apart_needs_a_network_that_has_one() -> None:
    task = tasks.load("digits")
    spec = RunSpec(
        task="digits", fingerprint=task.fingerprint, model="mlp:5", method="full", lr=0.1, recipe=task.recipe,
        seed=0, head="frozen",
    )  # fmt: skip
    with pytest.raises(RequestError, match="a module named 'head', as pretrained ones have; received 'mlp:5'"):
        run(spec)
