"""``idim subspace learn curvature``: what it writes, what it says it cost, what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from idim import models, tasks
from idim.cli import main
from idim.learned.curvature import GaussNewton
from idim.learned.objective import Objective
from idim.projections import Basis
from idim.projections.basis_file import open_basis
from idim.tasks.task import hashed_order

ASKED = ("--task", "digits", "--model", "mlp:2", "--columns", "3", "--rows", "60")


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as left:
        main(["subspace", "learn", "curvature", *map(str, arguments)])
    return int(left.value.code or 0)


def test_the_columns_are_eigenvectors_over_the_rows_that_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "basis.safetensors"
    assert command(*ASKED, "--of", "gauss-newton", "--tolerance", "1e-4", "--seed", "2", "--out", out) == 0
    said = capsys.readouterr().out
    file, task = open_basis(out), tasks.load("digits")
    assert f"3 columns over D = {file.D}, of gauss-newton over 60 rows" in said
    assert f"cost: gradients of {file.learned['cost']['rows']:,} rows" in said
    assert file.learned["cost"]["rows"] % (3 * 60) == 0
    rows = hashed_order(len(task.train), "rows for curvature")[:60]
    inputs = task.train.inputs
    assert isinstance(inputs, torch.Tensor)
    net = models.build("mlp:2", input_shape=task.input_shape, outputs=10, seed=2)
    objective = Objective(net, nn.functional.cross_entropy, inputs[rows], task.train.targets[rows], double=True)
    values, vectors = torch.linalg.eigh(GaussNewton(objective).to_dense())
    columns = Basis(D=file.D, d=3, path=str(out)).to_dense()
    assert file.learned["values"] == pytest.approx(values.flip(0)[:3].tolist(), rel=1e-4)
    overlaps = (columns * vectors.flip(1)[:, :3]).sum(0).abs()
    assert overlaps.tolist() == pytest.approx([1, 1, 1], abs=1e-3)


def test_gradients_cost_one_pass(tmp_path: Path) -> None:
    out = tmp_path / "basis.safetensors"
    assert command(*ASKED, "--of", "gradients", "--out", out, "--quiet") == 0
    assert open_basis(out).learned["cost"] == {"runs": 0, "steps": 0, "rows": 60}


def test_a_checkpoint_is_looked_at_by_its_name(tmp_path: Path) -> None:
    """A basis learned at a checkpoint starts there."""
    start, out = tmp_path / "start.safetensors", tmp_path / "basis.safetensors"
    from safetensors.torch import save_file

    net = models.build("mlp:4", input_shape=(1, 8, 8), outputs=10, seed=7)
    save_file(dict(net.state_dict()), start)
    asked = ("--task", "digits", "--model", f"start:{start}:mlp:4", "--columns", "2", "--rows", "40")
    assert command(*asked, "--of", "gradients", "--out", out, "--quiet") == 0
    D = open_basis(out).D
    Basis(D=D, d=2, path=str(out)).fitted(dict(net.named_parameters()))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--columns", "0"), "columns must be at least 1; received 0"),
        (("--columns", "100000"), "columns must be at most D = "),
        (("--columns", "61", "--of", "gradients"), "at most the 60 rows with a gradient each; received 61"),
        (("--rows", "100000"), "rows must be at most the 1,078 of the training split; received 100000"),
        (("--tolerance", "2"), "tolerance must be above 0 and below 1; received 2"),
        (("--task", "digit"), "unknown task 'digit'; did you mean 'digits'"),
        (("--model", "mlp:x"), "needs widths"),
        (("--exclude", "tail.*"), "tail"),
        (("--of", "hesian"), "hesian"),
        (("--model", "mlp:90000", "--columns", "40000"), "must fit into memory"),
    ],
)
def test_what_cannot_work_is_one_line_before_the_work(
    more: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "basis.safetensors"
    assert command(*ASKED, *more, "--out", out) == 2
    said, err = capsys.readouterr()
    assert message in err
    assert (err.count("\n"), said) == (1, "")
    assert not out.exists()
