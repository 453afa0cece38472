from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from text_cases import sentences, tiny_decoder

from idim import models, tasks
from idim.errors import RequestError
from idim.runs import Keep, Processes, RunSpec, Store, run
from idim.runs.learner import learner, network
from idim.runs.optimize import _parts
from idim.runs.rows import rows_of, training_rows
from idim.tasks import Recipe, Split, Texts

pytest.importorskip("transformers")
Maker = Callable[..., RunSpec]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a small decoder and a file of texts."""
    folder = tmp_path_factory.mktemp("next")
    tiny_decoder(folder / "decoder")
    lines = [f"the {text} was a film" for text, _ in sentences(300)]
    (folder / "texts.txt").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def make(place: Path) -> Maker:
    """Return a maker of specs of the small decoder on the texts."""
    task, name = tasks.load(f"lm:txt:{place / 'texts.txt'}"), models.resolve(str(place / "decoder"))

    def spec(*, lr: float = 1e-2, head: str = "inside", **changes: object) -> RunSpec:
        inside = {k: changes.pop(k) for k in list(changes) if k in {f.name for f in dataclasses.fields(Recipe)}}
        what = {"projection": "hadamard"} if changes.get("method") == "subspace" else {"method": "full"}
        recipe = dataclasses.replace(task.recipe, steps=6, length=12)
        return RunSpec(
            task=task.name, fingerprint=task.fingerprint, model=name, lr=lr, seed=0, head=head,
            recipe=dataclasses.replace(recipe, **inside), **(what | changes),  # type: ignore[arg-type]
        )  # fmt: skip

    return spec


def test_training_lowers_the_perplexity_and_a_subspace_gets_part_of_it(make: Maker) -> None:
    """The frame of every text is sure, its words are drawn: about half of a text can be learned."""
    little, part, whole = (
        run(spec)
        for spec in (
            make(method="subspace", d=1, lr=1e-6),
            make(method="subspace", d=300, lr=0.1, steps=80, batch_size=16),
            make(lr=1e-2, steps=80, batch_size=16),
        )
    )
    assert little.score == pytest.approx(-torch.tensor(18.0).log().item(), abs=0.2)
    assert little.score < part.score - 0.3 < part.score < whole.score
    assert whole.train_loss == pytest.approx(-whole.score, abs=0.3)


def test_a_run_is_a_function_of_its_spec_in_any_process(make: Maker, tmp_path: Path) -> None:
    spec = make(method="subspace", d=20, lr=0.1)
    with Store(tmp_path / "store") as store, Processes(store, workers=1) as engine:
        assert engine.map([spec])[spec.key].result == run(spec) == run(spec)


def test_a_batch_in_parts_has_the_gradient_of_the_whole(make: Maker) -> None:
    """Rows differ in length, so a mean of the parts' means would be another one."""
    spec = make(precision="float64")
    task = tasks.load(spec.task)
    module, rows = network(spec, task, None), training_rows(spec, task)
    gradients, losses = [], []
    for parts in (1, 3):
        module.zero_grad()
        values = list(_parts(module, task.loss, rows, torch.arange(7), parts))
        sum(values).backward()  # type: ignore[union-attr]
        losses.append(float(sum(v.item() for v in values)))
        gradients.append(torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-8)


def test_targets_are_the_numbers_of_tokens_foretold(make: Maker) -> None:
    spec = make(length=5)
    rows = rows_of(spec, tasks.load(spec.task).report)
    assert rows.lengths is not None
    assert rows.weights is rows.targets
    assert torch.equal(rows.targets, rows.lengths - 1)
    assert int(rows.targets.max()) == 4


def test_there_is_no_head(make: Maker, tmp_path: Path, place: Path) -> None:
    spec = make()
    module = learner(spec, network(spec, tasks.load(spec.task), None))
    assert not models.has_head(module)
    keep = Keep(folder=tmp_path)
    run(spec, keep=keep)
    stored, base = load_file(place / "decoder" / "model.safetensors"), load_file(keep.path(spec) / "base.safetensors")
    assert {name for name in base if name != "lm_head.weight"} >= set(stored)
    assert all(torch.equal(base[name], tensor) for name, tensor in stored.items())
    with pytest.raises(RequestError, match="head 'trained' needs a network with a module named 'head'"):
        run(make(head="trained"))


def test_joined_rows_are_tokenised_once(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make(train_on="train+selection")
    task = tasks.load(spec.task)
    first = training_rows(spec, task)
    monkeypatch.setattr(models, "encode", None)
    assert training_rows(spec, task).inputs is first.inputs
    assert len(first) == len(task.train) + len(task.selection)


def test_texts_of_one_token_are_refused(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, texts = make(), Split(inputs=Texts(first=("cat",)), targets=torch.empty(1, 0))
    assert rows_of(spec, texts).targets.tolist() == [2], "with the marks at both ends"
    monkeypatch.setattr(models, "encode", lambda *_: torch.tensor([[[5, 0]]]))
    with pytest.raises(RequestError, match="texts must have two tokens for one to be foretold; received 1 of fewer"):
        rows_of(spec, Split(inputs=Texts(first=("dog",)), targets=torch.empty(1, 0)))
