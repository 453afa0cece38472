"""Intrinsic prompt tuning on a small network: from tasks to a decoder, and back inside it."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from text_cases import sentences, tiny_bert, write_csv

from idim import models, tasks
from idim.cli import main
from idim.errors import RequestError
from idim.learned.ipt import learn_ipt
from idim.learned.ipt_request import IPTRequest
from idim.learned.task_losses import TaskLosses
from idim.learned.tunings import Plan, changes, start
from idim.projections.decoder_file import open_decoder
from idim.runs import Serial, Store
from idim.tasks import Recipe

SEEDS = {"a": 1, "b": 2, "c": 3}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with a small network and three tasks of their own texts."""
    folder = tmp_path_factory.mktemp("ipt")
    tiny_bert(folder / "net")
    for name, seed in SEEDS.items():
        rows = [(f"{name}{i} {text}", label) for i, (text, label) in enumerate(sentences(120, seed=seed))]
        write_csv(folder / f"{name}.csv", rows)
    return folder


def plan(place, **options):
    recipe = Recipe(optimizer="adamw", batch_size=8, steps=4, length=16)
    fields = {"model": models.resolve(str(place / "net")), "method": "prompt:length=2", "recipe": recipe}
    fields |= {"pair_length": 16, "probe_steps": 4, "probe_lr": 0.05, "lr": 0.1, "artifacts": place / "x"}
    return Plan(**fields | options)


def request(place, **options):
    fields = {"tasks": f"csv:{place}/a.csv,csv:{place}/b.csv", "unseen": f"csv:{place}/c.csv"}
    fields |= {"model": str(place / "net"), "tokens": 2, "columns": 3, "steps": 4, "batch": 8, "probe_steps": 4}
    fields |= {"rounds": 2, "out": place / "out.safetensors", "store": place / "store", "quiet": True}
    return IPTRequest(**fields | options)


def test_tasks_are_learned_from_and_tried(place, capsys):
    tried = learn_ipt(request(place))
    assert (tried.d, tried.D) == (3, 32)
    assert tried.unseen == (f"csv:{place}/c.csv",)
    assert all(set(scores) == {"start", "tuned", "inside"} for scores in tried.scores.values())
    assert max(tried.errors.values()) < 0.05  # two tunings lie on a line, whatever the task losses do to three codes
    file = open_decoder(tried.path)
    assert file.learned["how"] == "ipt"
    assert file.learned["finding"]["d"] == 3
    assert len(file.learned["task_losses"]) == 2
    report = json.loads((place / "out.json").read_text())
    assert report["recovered"]["unseen"][0]["tasks"] == 1
    before = tried.path.read_bytes()
    assert learn_ipt(request(place)).scores == tried.scores  # nothing is trained again, and the file is kept
    assert tried.path.read_bytes() == before
    assert "seen: recovered" in str(tried)


def test_another_method_takes_the_place_of_prompts(place, capsys):
    out = place / "lora.safetensors"
    fields = {"tasks": f"csv:{place}/a.csv,csv:{place}/b.csv", "method": "lora:rank=1", "decoder": "pca", "columns": 1}
    fields |= {"model": place / "net", "steps": 4, "batch": 8, "probe-steps": 4, "out": out, "store": place / "store"}
    with pytest.raises(SystemExit) as leaving:
        main(
            [
                "subspace",
                "learn",
                "ipt",
                *(str(word) for name, value in fields.items() for word in (f"--{name}", value)),
            ]
        )
    assert leaving.value.code == 0
    file = open_decoder(out)
    assert all("lora_" in name for name in file.names)
    said = capsys.readouterr().out
    assert f"{out}: d = 1 of D = {file.D:,}" in said
    assert "unseen" not in said


def test_a_fresh_head_needs_no_probe_and_starts_at_the_best_constant_answer(place):
    tried = learn_ipt(request(place, head="fresh", store=place / "fresh", out=place / "fresh.safetensors"))
    for name, scores in tried.scores.items():
        assert scores["start"] == tasks.load(name).chance
    with Store.read(place / "fresh") as store:
        assert not any("head:" in o.spec.model or o.spec.method == "probe" for o in store.outcomes())


def test_a_tuning_is_the_method_itself(place):
    task = tasks.load(f"csv:{place}/a.csv")
    made = plan(place, artifacts=place / "own" / "artifacts")
    with Store(place / "own") as store:
        with Serial(store, keep=made.keep_heads) as engine:
            engine.map([made.probe(task)])
        tuning = made.tuning(task)
        itself = dataclasses.replace(tuning, model=made.started(task), method=made.method)
        with Serial(store) as engine:
            found = engine.map([tuning, itself])
    one, other = found[tuning.key].result, found[itself.key].result
    assert (one.score, one.train_loss, one.trained) == (other.score, other.train_loss, other.trained)
    assert (one.trained, one.D) == (32, 32 + 34)


def test_a_full_decoder_reaches_what_tuning_reaches(place):
    """A decoder of all D numbers around no change at all trains as the numbers themselves do, but for their scale."""
    from idim.projections.decoder_file import Layer, save_decoder

    task = tasks.load(f"csv:{place}/a.csv")
    made = plan(place, artifacts=place / "own" / "artifacts")
    with Store(place / "own") as store:
        with Serial(store, keep=made.keep_heads) as engine:
            engine.map([made.probe(task)])
        path = place / "whole.safetensors"
        turn = torch.linalg.qr(torch.randn(32, 32, generator=torch.Generator().manual_seed(0))).Q
        save_decoder(path, [Layer(weight=turn, bias=torch.zeros(32))], start(made, task), learned={})
        recipe = dataclasses.replace(made.recipe, optimizer="sgd", steps=6)
        tuning = dataclasses.replace(made.tuning(task), recipe=recipe)
        from idim.projections import resolve

        inside = dataclasses.replace(tuning, method="subspace", projection=resolve(f"decoder:{path}"), d=32)
        with Serial(store) as engine:
            found = engine.map([tuning, inside])
    one, other = found[tuning.key].result, found[inside.key].result
    assert other.trained == one.trained == 32
    assert other.train_loss == pytest.approx(one.train_loss, abs=1e-5)  # gradient descent does not see a rotation


@pytest.mark.parametrize("heads", ["probe", "fresh"])
def test_task_losses_are_those_of_the_runs_and_have_their_gradient(place, heads):
    first = tasks.load(f"csv:{place}/a.csv")
    made = plan(place, artifacts=place / "own" / "artifacts", heads=heads)
    with Store(place / "own") as store, Serial(store, keep=made.keep_heads) as engine:
        engine.map([made.probe(first)])
    losses = TaskLosses(made, [first])
    losses.network.double()  # a gradient near 1e-6 is lost in the rounding of float32
    losses.numbers = {name: values.double() for name, values in losses.numbers.items()}
    losses.heads = [{name: values.double() for name, values in head.items()} for head in losses.heads]
    change = torch.randn(32, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    value = losses.losses(1, 0)(0, change)
    value.backward()
    size = float(change.grad.norm())
    length = min(1e-2, 1e-5 / size)
    ends = [float(losses.losses(1, 0)(0, change.detach() + s * length / size * change.grad)) for s in (1, -1)]
    assert (ends[0] - ends[1]) / 2 == pytest.approx(length * size, rel=1e-4)
    again = losses.losses(2, 0)
    assert float(again(0, 0 * change)) != float(again(0, 0 * change))  # the next batch


def test_tunings_of_different_networks_are_refused(place, tmp_path):
    from safetensors.torch import save_file

    numbers = {"body.prompt.values": torch.zeros(2, 4)}
    for name, rows in (("one", 2), ("two", 3)):
        (tmp_path / name).mkdir()
        for file in ("base", "tuned"):
            save_file({"prompt.values": torch.zeros(rows, 4)}, tmp_path / name / f"{file}.safetensors")
    assert changes([tmp_path / "one"], numbers).shape == (1, 8)
    with pytest.raises(
        RequestError, match=r"must start from the same numbers; .* shapes \[\[3, 4\]\] where \[\[2, 4\]\]"
    ):
        changes([tmp_path / "one", tmp_path / "two"], numbers)
    with pytest.raises(RequestError, match=r"tunings must be of one method; received .* without 'other'"):
        changes([tmp_path / "one"], {"other": torch.zeros(2, 4)})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": "csv:a"}, "a subspace of tasks needs at least two of them; received 'csv:a': name more"),
        ({"tasks": "x,y", "unseen": "y"}, "every task must be named once, seen or unseen; received 'y' again"),
        ({"columns": 0}, "columns must be at least 1; received 0"),
        ({"decoder": "pca"}, "2 tasks have at most 1 principal components; received columns 3"),
        ({"inside_lr": float("nan")}, "inside_lr must be finite and above 0; received nan"),
        ({"decoder_lr": 0.0}, "decoder_lr must be finite and above 0; received 0.0"),
        ({"rounds": -1}, "rounds and alpha must be at least 0; received -1"),
        ({"method": "lore:rank=1"}, "unknown method 'lore'; did you mean 'lora'"),
        ({"method": "did:d=3"}, "takes a method that adds parameters to a network"),
        ({"model": "mlp:8"}, "takes numbers; received texts"),
    ],
)
def test_what_cannot_be_learned_is_refused(place, options, message):
    with pytest.raises(RequestError, match=message):
        learn_ipt(request(place, **options, out=place / "refused.safetensors"))
    assert not (place / "refused.safetensors").exists()


def test_tasks_that_overlap_are_not_unseen(place, capsys):
    write_csv(
        place / "copy.csv", [(f"{'a' if i % 2 else 'd'}{i} {t}", y) for i, (t, y) in enumerate(sentences(120, seed=1))]
    )
    fields = ["--tasks", f"csv:{place}/a.csv,csv:{place}/b.csv", "--unseen", f"csv:{place}/copy.csv", "--columns", "2"]
    with pytest.raises(SystemExit) as leaving:
        main(
            ["subspace", "learn", "ipt", *fields, "--model", str(place / "net"), "--out", str(place / "o.safetensors")]
        )
    assert leaving.value.code == 2
    line = capsys.readouterr().err
    assert "an unseen task must share no rows with those learned from" in line
    assert line.count("\n") == 1
