"""What ``idim bound`` refuses is one line, before anything trains."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from bound_cases import full, spec_of, user_net
from torch import nn

from idim import Subspace, tasks
from idim.cli import main
from idim.errors import RequestError
from idim.runs import RunSpec
from idim.tasks import Recipe
from idim.theory import finished
from idim.theory.bounding import bound_runs
from idim.theory.certificate import Coding
from idim.theory.selection import Chosen


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "bound needs a run: folders of saved subspaces, or --store DIR"),
        (["abcdef"], "a run is a folder of a saved subspace, or a key with --store DIR; received 'abcdef'"),
        (["FOLDER"], "has a readable subspace.json"),
        (["--store", "nowhere"], "nowhere"),
        (["--store", "STORE", "--dims", "61"], "must have a finished run in a subspace that is asked for"),
        (["--store", "STORE", "--dims", "61"], " and --dims 61 where it has "),
        (["--store", "STORE", "--steps", "7", "--task", "cola"], " --task cola where it has digits; --steps 7 where "),
        (["--store", "STORE", "FULL"], "whose trained numbers are few, method 'subspace'; received 'full'"),
        (["--store", "STORE", "000000000"], "received '000000000', which none has"),
        (["--store", "STORE", "--levels", "1,3"], "levels must be from 2 to 4,096; received '1,3'"),
        (["--store", "STORE", "--levels", "three"], "levels must be whole numbers such as 3,5,9; received 'three'"),
        (["--store", "STORE", "--delta", "1"], "must be in (0, 1); received 1"),
        (["--store", "STORE", "--tune", "-1"], "tune must be at least 0 steps; received -1"),
        (["--store", "STORE", "--lr", "0"], "lr must be finite and above 0; received 0.0"),
        (["--store", "STORE", "--extra-bits", "-3"], "extra_bits must be finite and at least 0; received -3"),
        (["FOLDER", "--dims", "3"], "received no --store"),
    ],
)
def test_bad_requests(
    arguments: list[str], said: str, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"STORE": str(store), "FOLDER": str(tmp_path), "FULL": full().key}
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as leaving:
        main(["bound", *(places.get(a, a) for a in arguments), "--out", str(out)])
    error = capsys.readouterr().err
    assert leaving.value.code == 2
    assert said in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_values_have_no_wrong_answers(tmp_path: Path) -> None:
    task = tasks.load("regression")
    spec = RunSpec(
        task="regression", fingerprint=task.fingerprint, model="linear", method="subspace", projection="hadamard",
        d=5, lr=0.1, recipe=Recipe(steps=1), seed=0,
    )  # fmt: skip
    with pytest.raises(RequestError, match="the task must have classes; received 'regression', scored by r2"):
        bound_runs([Chosen(spec=spec)], Coding(), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_start_is_refused_unless_it_owes_nothing_to_the_rows() -> None:
    spec, task = spec_of(model="start:a.safetensors@0123456789abcdef:mlp:16"), tasks.load("digits")
    with pytest.raises(RequestError, match=r"theta0 must be fixed before the rows are seen.*say --unseen"):
        finished.check(spec, task, unseen=False)
    finished.check(spec, task, unseen=True)


def test_directions_learned_from_the_rows_are_refused_unless_they_were_not(tmp_path: Path) -> None:
    spec = spec_of(projection="basis:some.safetensors@0123456789abcdef")
    with pytest.raises(RequestError, match=r"fixed before the rows are seen.*say --unseen"):
        bound_runs([Chosen(spec=spec)], Coding(), out=tmp_path)
    with pytest.raises(RequestError, match=r"some\.safetensors"):  # the next thing that is asked for
        bound_runs([Chosen(spec=spec)], Coding(), out=tmp_path, unseen=True)


def test_running_statistics_are_refused(tmp_path: Path) -> None:
    spec = spec_of(20, model=user_net(tmp_path, "nn.BatchNorm1d(8), "))
    with pytest.raises(RequestError, match="take a network without BatchNorm"):
        bound_runs([Chosen(spec=spec)], Coding(), out=tmp_path / "out")


def test_a_buffer_that_training_moves_is_refused(tmp_path: Path) -> None:
    class Counted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(1))

    net, other = Counted(), Counted()
    net.weight = nn.Parameter(torch.ones(3))
    space = Subspace(net, d=2)
    assert finished._changed(other, space) == []
    space.model.count += 1
    assert finished._changed(other, space) == ["count"]
