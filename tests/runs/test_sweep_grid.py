"""From the YAML of a sweep to its runs, and the one line for what cannot be served."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from idim import methods, tasks
from idim.dimension import rates
from idim.errors import RequestError
from idim.runs import Resources, RunSpec
from idim.runs.sweeps.document import shown
from idim.runs.sweeps.grid import FIELDS, RECIPE, read_grid
from idim.tasks import Recipe

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a writer of YAML files; the one it returns is the first that it wrote."""

    def written(text: str, **others: str) -> Path:
        for name, content in {"a": text, **others}.items():
            (tmp_path / f"{name}.yaml").write_text(content)
        return tmp_path / "a.yaml"

    return written


def refused(path: Path, *overrides: str) -> str:
    with pytest.raises(RequestError) as caught:
        read_grid(path, overrides, None)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_grid_is_the_product_of_its_values(write: Write) -> None:
    path = write("{task: toy, projection: [uniform, dense], d: [5, 10], lr: 0.02, seed: {range: 3}}")
    specs = read_grid(path, (), None).specs
    assert [(s.projection, s.seed, s.d) for s in specs] == [
        (kind, seed, d) for kind in ("uniform", "dense") for seed in range(3) for d in (5, 10)
    ]
    toy = tasks.load("toy")
    assert specs[0] == RunSpec(
        task="toy", fingerprint=toy.fingerprint, model=toy.default_model, method="subspace", projection="uniform",
        d=5, lr=0.02, recipe=toy.recipe, seed=0,
    )  # fmt: skip


def test_what_is_not_said_is_the_tasks_own(write: Write) -> None:
    (spec,) = read_grid(write("{task: digits, lr: 1e-2}"), (), None).specs
    digits = tasks.load("digits")
    assert (spec.method, spec.model, spec.recipe, spec.seed) == ("full", digits.default_model, digits.recipe, 0)
    assert (spec.lr, spec.head, spec.head_lr) == (0.01, "inside", None)
    (spec,) = read_grid(write("{task: digits, lr: 1, d: 7, recipe: {steps: 3, l2: 1e-5}}"), (), None).specs
    assert spec.recipe == dataclasses.replace(digits.recipe, steps=3, l2=1e-5)
    assert spec.projection == "hadamard"


def test_full_training_beside_dims(write: Write) -> None:
    specs = read_grid(write("{task: toy, d: [null, 5], projection: [uniform, dense], lr: 0.1}"), (), None).specs
    assert [(s.method, s.projection, s.d) for s in specs] == [
        ("full", None, None),
        ("subspace", "uniform", 5),
        ("subspace", "dense", 5),
    ]


def test_rates_are_those_of_a_measure(write: Write) -> None:
    specs = read_grid(write("{task: toy, d: {range: [3, 60]}, lr: 2.4/sqrt(d)}"), (), None).specs
    assert [s.lr for s in specs] == [rates.given(2.4, 0.5).lr(s.d or 0) for s in specs]


def test_every_field_of_a_run_has_a_key() -> None:
    fields = {field.name for field in dataclasses.fields(RunSpec)} - {"fingerprint", "recipe"}
    assert set(FIELDS) == fields | {f"recipe.{field.name}" for field in dataclasses.fields(Recipe)}
    assert len(RECIPE) == len(dataclasses.fields(Recipe))


def test_grids_inherit_and_files_are_included(write: Write) -> None:
    path = write(
        """
include: [shared, more.yaml]
seed: 4
grids:
  - {lr: 0.5}
  - {include: dims.yaml, lr: 0.1, recipe: {l2: 0.5}}
  - {lr: 0.2, task: "regression:3", grids: [{recipe: {steps: 9}}, {seed: 5}]}
""".replace("shared", "shared.yaml"),
        shared="{task: digits, lr: 9, recipe: {steps: 7, optimizer: adam}, seed: 1}",
        more="{recipe: {l2: 0.25, schedule: constant}, seed: 2}",
        dims="{d: [5, 6], lr: 0.3, seed: 3}",
    )
    found = [
        (s.task, s.d, s.lr, s.recipe.steps, s.recipe.l2, s.recipe.schedule, s.seed)
        for s in read_grid(path, (), None).specs
    ]
    assert found == [
        ("digits", None, 0.5, 7, 0.25, "constant", 4),
        ("digits", 5, 0.1, 7, 0.5, "constant", 3),
        ("digits", 6, 0.1, 7, 0.5, "constant", 3),
        ("regression:3", None, 0.2, 9, 0.25, "constant", 4),
        ("regression:3", None, 0.2, 7, 0.25, "constant", 5),
    ]


def test_overrides_win_everywhere(write: Write) -> None:
    path = write("{lr: 1, grids: [{task: toy, recipe: {steps: 3}}, {task: digits, recipe: {steps: 4}}]}")
    specs = read_grid(path, ["task=toy", "recipe.steps=5", "d={log: [4, 16, 3]}"], None).specs
    assert [(s.task, s.recipe.steps, s.d) for s in specs] == [("toy", 5, 4), ("toy", 5, 8), ("toy", 5, 16)]
    assert "unknown key 'recipe.step'; did you mean 'recipe.steps'?" in refused(path, "recipe.step=5")
    assert "--set takes KEY=VALUE" in refused(path, "task")
    assert refused(path, "d=[1").startswith("--set d, line 1: must be YAML")
    assert "--set seed=x: the value must be a finite number; received 'x'" in refused(path, "seed=x")


def test_a_run_that_occurs_twice_is_one(write: Write) -> None:
    path = write("{task: toy, lr: 1, grids: [{d: [5, 6]}, {d: [6, 7]}, {d: 5, lr: [1.0, 1]}]}")
    assert [s.d for s in read_grid(path, (), None).specs] == [5, 6, 7]


def test_merged_mappings_of_yaml(write: Write) -> None:
    path = write("lr: 1\ntask: toy\ngrids:\n  - &one {d: 5, seed: 1}\n  - {<<: *one, d: 6}\n")
    assert [(s.d, s.seed) for s in read_grid(path, (), None).specs] == [(5, 1), (6, 1)]


def test_resources_are_no_part_of_a_run_and_belong_to_a_grid(write: Write) -> None:
    grids = "[{d: 5, resources: {gpus: 0.25}}, {d: 6}, {d: 7, resources: {cpus: 4}}]"
    plain = read_grid(write("{task: toy, lr: 1, d: [5, 6, 7]}"), (), None)
    grid = read_grid(write(f"{{task: toy, lr: 1, resources: {{cpus: 2}}, grids: {grids}}}"), (), None)
    assert (grid.specs, plain.resources) == (plain.specs, {})
    assert [grid.resources[spec.key] for spec in grid.specs] == [
        Resources(cpus=2, gpus=0.25),
        Resources(cpus=2),
        Resources(cpus=4),
    ]
    forced = read_grid(write(f"{{task: toy, lr: 1, grids: {grids}}}"), ["resources.cpus=0.5"], None)
    assert {shares.cpus for shares in forced.resources.values()} == {0.5}


def test_ways_of_tuning_are_values_of_method(write: Write) -> None:
    path = write("{task: digits, model: 'mlp:9', lr: 1e-3, method: [full, bitfit, 'lora:rank=4,alpha=8', lora]}")
    assert [s.method for s in read_grid(path, (), None).specs] == [
        "full",
        "bitfit",
        methods.canonical("lora:rank=4,alpha=8"),
        "lora",
    ]
    assert "unknown method 'lroa'; did you mean 'lora'?" in refused(write("{task: toy, lr: 1, method: lroa}"))
    assert "digits" not in refused(write("{task: toy, lr: 1, method: prompt}"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("task: toy\nlr: 1\nresources: {cpu: 1}", "line 3: unknown key of resources 'cpu'; did you mean 'cpus'?"),
        ("task: toy\nlr: 1\nresources:\n  cpus: 0", "line 4: cpus of a run must be finite and above 0; received 0"),
        ("task: toy\nlr: 1\nresources:\n  gpus: 1.5", "line 4: gpus of a run must be whole above 1"),
        ("task: toy\nlr: 1\nresources:\n  cpus: [1, 2]", "line 4: resources.cpus takes one value in a grid"),
        ("task: toy\nlr: 1\nprojcetion: dense", "a.yaml, line 3: unknown key 'projcetion'; did you mean 'projection'?"),
        ("task: toy\nlr: 1\nrecipe:\n  stesp: 4", "line 4: unknown key of recipe 'stesp'; did you mean 'steps'?"),
        ("task: toy\ngrids:\n  - lr: 1\n  - {lr: 2,\n     sed: 1}", "line 5: unknown key 'sed'; did you mean 'seed'?"),
        ("task: toy\nlr: 1\nseed: 1\nseed: 2", "received 'seed' again near"),
        ("task: toy\nlr: 1\nrecipe: 5", "line 3: recipe must be a mapping"),
        ("task: toy\nlr: 1\nd: []", "line 3: a key needs at least one value; received []"),
        ("task: toy\nlr: 1\nd: 0", "d must be at least 1; received d = 0"),
        ("task: toy\nlr: 1\nd: [5, 1001]", "d must be between 1 and D = 1000; received d = 1001 (the run with d 1001)"),
        ("task: toy\nlr: 0", "lr must be finite and above 0; received 0"),
        ("task: toy", "every grid needs 'lr'"),
        ("lr: 1", "every grid needs 'task'"),
        ("task: tyo\nlr: 1", "unknown task 'tyo'; did you mean 'toy'?"),
        ("task: digits\nlr: 1\nmodel: [mlp, mpl]", "unknown model 'mpl'; did you mean 'mlp'? Known"),
        ("task: toy\nlr: 1\nd: 5\nprojection: hadamrd", "unknown projection 'hadamrd'; did you mean 'hadamard'?"),
        ("task: toy\nlr: 1\nprojection: dense", "method 'full' takes neither; received 'full' with projection 'dense'"),
        ("task: toy\nlr: 1\nd: 5\nmethod: full", "method 'full' takes neither"),
        ("task: toy\nlr: 1\nmethod: subspce", "unknown method 'subspce'; did you mean 'subspace'?"),
        ("task: toy\nlr: 2/sqrt(d)", "lr of full training must be a number; received 2/sqrt(d)"),
        ("task: toy\nlr: 1\nhead: trained", "head 'trained' needs a network with a module named 'head'"),
        ("task: toy\nlr: 1\nhead_lr: 1", "head_lr needs head 'trained'"),
        ("task: toy\nlr: 1\nrecipe: {optimizer: adma}", "unknown optimizer 'adma'; did you mean 'adam'?"),
        ("task: toy\nlr: 1\nrecipe: {steps: 0}", "steps must be at least 1; received 0"),
        ("task: toy\nlr: 1\nrecipe: {bucketed: 1}", "line 3: the value must be true or false; received 1"),
        ("task: idx:/no/such/folder\nlr: 1", "needs a folder of idx files"),
        ("task: digits\nmodel: lenet\nlr: 1", "model 'lenet' needs images"),
        ("task: toy\nlr: 1\nseed: {range: 1001}\nd: {range: [1, 1001]}", "received a grid of 1,001,000"),
        ("task: toy\nlr: 1\ngrids: []", "line 3: grids must be a list that is not empty; received []"),
        ("task: toy\nlr: 1\ngrids: [3]", "every grid must be a mapping of keys to values; received 3"),
        ("", "a sweep must be a mapping of keys to values; received None"),
        ("- task", "a sweep must be a mapping"),
        ("task: [toy", "must be YAML"),
        ("task: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("3: 4", "line 1: a key must be a word; received 3"),
        ("? [a, b]\n: 4", "a key must be a word; received ['a', 'b']"),
        ("a: &x {a: *x}", "must be YAML"),
        ("task: \x00", "must be YAML"),
        ("lr: 2020-13-45", "must be YAML"),
        ("lr: 1\ninclude: b.yaml", "line 2: an included file must exist; received 'b.yaml'"),
        ("lr: 1\ninclude: a.yaml", "line 2: a file must not include itself; received 'a.yaml'"),
        ("lr: 1\ninclude: [3]", "line 2: include takes names of files; received 3"),
        ("[" * 1100, "must be YAML"),
    ],
)  # fmt: skip
def test_one_line_for_what_cannot_be_served(text: str, said: str, write: Write) -> None:
    line = refused(write(text))
    assert said in line
    assert "a.yaml" in line


def test_an_unknown_key_of_an_included_file_is_told_with_its_file(write: Write) -> None:
    line = refused(write("{task: toy, lr: 1, include: b.yaml}", b="# a comment\nsedes: 4"))
    assert "b.yaml, line 2: unknown key 'sedes'" in line
    assert "must not include itself" in refused(write("include: b.yaml", b="include: a.yaml"))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "none.yaml")
    assert "Is a directory" in refused(tmp_path)
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\xff")
    assert "must be YAML" in refused(tmp_path / "b.yaml")


def test_includes_cannot_multiply_without_end(write: Write) -> None:
    many = "[" + ",".join(["{lr: 1}"] * 30) + "]"
    line = refused(write("{task: toy, include: [b.yaml, b.yaml, b.yaml, b.yaml]}", b=f"grids: {many}"))
    assert "at most 10,000 grids; received 27,000" in line


def test_a_large_grid_of_small_runs_is_read(write: Write) -> None:
    specs = read_grid(write("{task: toy, lr: 1, seed: {range: 50}, d: {range: [1, 41]}}"), (), None).specs
    assert len({s.key for s in specs}) == 2000
    assert len({id(s.recipe) for s in specs}) == 1


def test_short_forms_of_values() -> None:
    assert shown("x" * 1000).count("x") < 60
    assert len(shown({str(i): i for i in range(100)})) < 100
