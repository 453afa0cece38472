"""Subspaces that are known: learned bases find them, and d_int of a learned basis is their dimension."""

from __future__ import annotations

import json
import math

import pytest
import torch
from laws import normal
from safetensors.torch import save_file
from scipy import stats
from scipy.linalg import subspace_angles
from torch import nn

import idim
from idim.cli import main
from idim.errors import RequestError
from idim.learned.basis_writer import save_basis
from idim.learned.coverage import Coverage, coverage, leave_one_out
from idim.learned.request import DeltasRequest, EvaluateRequest, TrajectoryRequest
from idim.learned.vectors import Vectors, layout_of, open_model
from idim.projections import Basis
from idim.projections.basis_file import open_basis

D, TRUE = 60, 4
SHAPES = {"a.weight": (6, 8), "b.bias": (12,)}


def write(path, flat):
    path = path.with_suffix(".safetensors")
    parts = torch.split(flat, [math.prod(shape) for shape in SHAPES.values()])
    save_file({n: p.reshape(s).clone() for (n, s), p in zip(SHAPES.items(), parts, strict=True)}, path)
    return path


def span(seed=0, rank=TRUE):
    return torch.linalg.qr(normal((D, rank), seed)).Q


def dense(path):
    file = open_basis(path)
    return Basis(D=file.D, d=file.columns, path=str(path)).to_dense()


def angle(path, columns):
    return float(subspace_angles(dense(path).numpy(), columns.numpy()).max())


def command(*arguments):
    with pytest.raises(SystemExit) as left:
        main(["subspace", *map(str, arguments)])
    return left.value.code


def descent(folder, steps=12, rank=TRUE):
    """Write gradient descent on a quadratic whose curvature has few directions; return the files and the directions."""
    columns, theta = span(rank=rank), normal(D, seed=5)
    curvature = torch.linspace(0.3, 1, rank, dtype=torch.float64)
    start, files = theta.clone(), []
    target = start + columns @ normal(rank, seed=6)
    for step in range(steps):
        files.append(write(folder / f"{step:02d}.safetensors", theta))
        theta = theta - columns @ (curvature * (columns.T @ (theta - target)))
    return files, columns


@pytest.mark.parametrize("centre", ["mean", "start"])
def test_the_trajectory_on_a_quadratic_lies_in_its_curved_directions(tmp_path, centre, capsys):
    files, columns = descent(tmp_path)
    assert command("learn", "trajectory", *files, "--centre", centre, "--out", tmp_path / "basis") == 0
    assert f"{TRUE} columns over D = 60, from 12 vectors of rank {TRUE}, with 100.00 %" in capsys.readouterr().out
    assert angle(tmp_path / "basis", columns) <= 1e-3
    assert open_basis(tmp_path / "basis").learned["centre"] == centre


@pytest.mark.parametrize("options", [(), ("--centred",)])
def test_deltas_of_tasks_are_in_the_directions_that_the_tasks_share(tmp_path, capsys, options):
    base, columns = normal(D, seed=1), span()
    start = write(tmp_path / "base", base)
    tuned = [write(tmp_path / f"task-{k}", base + columns @ normal(TRUE, seed=10 + k)) for k in range(7)]
    assert command("learn", "deltas", start, *tuned, "--out", tmp_path / "b.safetensors", *options) == 0
    assert angle(tmp_path / "b.safetensors", columns) <= 1e-3
    said = capsys.readouterr().out
    assert "each delta in the directions of the others, D = 60" in said
    found = json.loads((tmp_path / "b.json").read_text())
    assert all(shares[-1] == pytest.approx(1) for shares in found["shares"])
    assert found["random"][0]["mean"] == pytest.approx(1 / D)


class Quadratic(nn.Module):
    """Answers whose squares sum to 0 on an affine set of known dimension: TRUE conditions over D numbers."""

    def __init__(self):
        super().__init__()
        for name, shape in SHAPES.items():
            module = nn.Module()
            setattr(self, name.partition(".")[0], module)
            setattr(module, name.partition(".")[2], nn.Parameter(torch.zeros(shape, dtype=torch.float64)))
        self.conditions, self.target = span().T, normal(TRUE, seed=3)

    def forward(self):
        theta = torch.cat([p.reshape(-1) for p in self.parameters()])
        return (self.conditions @ theta - self.target).square().sum()


def best(path, d):
    """Return the least loss in d columns of a basis."""
    space = idim.Subspace(Quadratic(), projection=f"basis:{path}", d=d)
    optimizer = torch.optim.LBFGS(
        space.parameters(), max_iter=100, tolerance_grad=0, tolerance_change=0, line_search_fn="strong_wolfe"
    )
    optimizer.step(lambda: (optimizer.zero_grad(), loss := space(), loss.backward(), loss)[-1])
    return space().item()


def test_d_int_of_a_learned_basis_is_the_true_dimension(tmp_path):
    """Seven tasks of TRUE conditions each, in one space of TRUE dimensions: an eighth needs TRUE of the columns."""
    base = write(tmp_path / "base", torch.zeros(D, dtype=torch.float64))
    tuned = [write(tmp_path / f"task-{k}", span() @ normal(TRUE, seed=20 + k)) for k in range(7)]
    out = tmp_path / "basis.safetensors"
    assert command("learn", "deltas", base, *tuned, "--out", out, "--quiet") == 0
    assert open_basis(out).columns == TRUE
    start = Quadratic()().item()
    assert best(out, TRUE) < 1e-12 * start
    assert all(best(out, d) > 1e-3 * start for d in range(1, TRUE))


def test_coverage_is_the_share_inside_for_every_number_of_columns(tmp_path):
    base, columns = normal(D, seed=1), span(rank=5)
    start = open_model(write(tmp_path / "base", base))
    inside = columns @ torch.tensor([3.0, 0, 4, 0, 0], dtype=torch.float64)
    outside = span(seed=2, rank=20)[:, 7]
    outside = outside - columns @ (columns.T @ outside)
    files = [write(tmp_path / "x", base + inside), write(tmp_path / "y", base + inside + 5 * outside / outside.norm())]
    for precision, tolerance in (("float32", 1e-6), ("bfloat16", 1e-2)):
        tensors = {n: p.reshape(s) for (n, s), p in zip(SHAPES.items(), torch.split(base, [48, 12]), strict=True)}
        save_basis(tmp_path / "basis", columns, tensors, learned={}, precision=precision)
        found = coverage(open_basis(tmp_path / "basis"), start, [open_model(f) for f in files])
        assert found.shares[0] == pytest.approx((9 / 25, 9 / 25, 1, 1, 1), abs=tolerance)
        assert found.shares[1] == pytest.approx((9 / 50, 9 / 50, 0.5, 0.5, 0.5), abs=tolerance)
        assert found.norms == pytest.approx((5, math.sqrt(50)))


def test_the_zero_line_is_that_of_random_subspaces():
    x, seeds, d = normal(D), 300, 7
    shares = torch.stack([(span(seed, rank=d).T @ x).square().sum() / x.square().sum() for seed in range(seeds)])
    zero = Coverage(what="", D=D, names=(), shares=(), norms=()).random(d)
    mean, std = zero.mean, zero.sd
    law = stats.beta(d / 2, (D - d) / 2)
    assert (mean, std) == pytest.approx((law.mean(), law.std()))
    assert abs(float(shares.mean()) - mean) < 4 * std / math.sqrt(seeds)
    assert stats.kstest(shares.numpy(), law.cdf).pvalue > 1e-6


@pytest.mark.parametrize("centred", [False, True])
def test_leaving_one_out_is_learning_from_the_others(tmp_path, centred):
    base, deltas = normal(D, seed=1), normal((5, D), seed=2) + normal(D, seed=3)
    source = open_model(write(tmp_path / "base", base))
    tuned = [open_model(write(tmp_path / f"{k}", base + delta)) for k, delta in enumerate(deltas)]
    found = leave_one_out(Vectors(tuned, base=source, layout=layout_of(source)), centred=centred)
    for i, delta in enumerate(deltas):
        others = torch.cat([deltas[:i], deltas[i + 1 :]])
        others = others - others.mean(0) if centred else others
        values, right = torch.linalg.svd(others, full_matrices=False)[1:]
        right = right[: 4 - centred]
        expected = ((right @ delta).square().cumsum(0) / delta.square().sum()).tolist()
        assert found.shares[i] == pytest.approx(expected, abs=1e-9)
        assert bool((values > 0).all())


def test_evaluating_prints_and_writes_the_shares(tmp_path, capsys):
    files, _ = descent(tmp_path)
    command("learn", "trajectory", *files, "--out", tmp_path / "basis", "--columns", "3", "--quiet")
    out = tmp_path / "report.json"
    assert command("evaluate", tmp_path / "basis", files[0], files[-1], "--out", out) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[1].split()[-3:] == ["1", "2", "3"]
    assert said.splitlines()[-1].split()[:1] == ["random"]
    assert 0.9 < json.loads(out.read_text())["shares"][0][2] <= 1


def test_a_task_is_trained_and_its_trajectory_learned(tmp_path, capsys):
    asked = ["learn", "trajectory", "--task", "digits", "--model", "mlp:8", "--lr", "0.01", "--steps", "30"]
    places = ["--points", "6", "--out", tmp_path / "basis.safetensors"]
    assert command(*asked, *places) == 0
    assert "6 columns over D = 610, from 7 vectors of rank 6" in capsys.readouterr().out
    name = f"basis:{tmp_path / 'basis.safetensors'}"
    found = idim.measure(
        task="digits", model="mlp:8", projection=name, bar="absolute:0.2", lr="0.3", steps=30, seeds=1,
        engine="serial", quiet=True, out=tmp_path / "out",
    )  # fmt: skip
    assert found.D == 610
    assert open_basis(tmp_path / "basis.safetensors").learned["cost"] == {"runs": 1, "steps": 30, "rows": 30 * 64}
    assert command(*asked[:-2], "--lr", "1e30", *places) == 2
    assert "the training that a subspace is learned from must succeed; received: " in capsys.readouterr().err


def test_requests_that_cannot_be_served_are_one_line(tmp_path, capsys):
    files, _ = descent(tmp_path, steps=3)
    other = tmp_path / "other.safetensors"
    save_file({"a.weight": torch.zeros(2, 2)}, other)
    out = ("--out", tmp_path / "b")
    for arguments, message in (
        (["learn", "trajectory", files[0], *out], "at least two checkpoints; received one"),
        (["learn", "trajectory", *out], "of checkpoints, or of a task that is trained now; received 0 checkpoints"),
        (["learn", "trajectory", "--task", "digits", *out], "needs lr, finite and above 0; received None"),
        (["learn", "trajectory", files[0], files[0], *out], "must differ to be learned from; received 2 of rank 0"),
        (
            ["learn", "trajectory", files[0], other, *out],
            "tensor 'a.weight' must have shape [6, 8] in all models; received [2, 2]",
        ),
        (["learn", "trajectory", *files, "--lr", "1", *out], "checkpoints leave none: leave them out"),
        (
            ["learn", "deltas", files[0], files[1], *out],
            "a subspace of tasks needs at least two tuned models; received 1",
        ),
        (["learn", "deltas", files[0], files[1], files[1], *out], "must be given once"),
        (["learn", "deltas", files[0], files[1], files[0], *out], "must differ from its base; received"),
        (["learn", "deltas", *files, "--exclude", "tail.*", *out], "pattern 'tail.*' must match a tensor"),
        (["evaluate", files[0], files[0], files[1]], "a basis has metadata 'idim.basis'"),
        (["evaluate", files[0], files[0], files[1], "--out", "x.txt"], "a file that ends in .json"),
        (["learn", "trajectory", *files, "--out", "/proc/nowhere/b"], "writable"),
        (["learn", "trajectoy"], "trajectory"),
    ):
        assert command(*arguments) == 2, arguments
        out_text, err = capsys.readouterr()
        assert message in err, (arguments, err)
        assert (err.count("\n"), out_text) == (1, "")
    assert not (tmp_path / "b").exists()


def test_requests_are_checked_in_python_too(tmp_path):
    with pytest.raises(RequestError, match="points must be from 1"):
        TrajectoryRequest(task="digits", lr=0.1, points=0, out=tmp_path / "b")
    for options, most in (({"points": 3}, 3), ({"points": 50, "steps": 4}, 4)):
        with pytest.raises(RequestError, match=rf"columns must be from 1 to {most}, .*; received 99"):
            TrajectoryRequest(task="digits", lr=0.1, columns=99, out=tmp_path / "b", **options)
    with pytest.raises(RequestError, match=r"columns must be from 1 to 50, .*; received 0"):
        TrajectoryRequest(task="digits", lr=0.1, columns=0, out=tmp_path / "b")
    with pytest.raises(RequestError, match=r"columns must be from 1 to 1, .*; received 2"):
        TrajectoryRequest(checkpoints=(tmp_path / "a", tmp_path / "c"), columns=2, out=tmp_path / "b")
    with pytest.raises(RequestError, match="at least two tuned models"):
        DeltasRequest(base=tmp_path, tuned=(), out=tmp_path / "b")
    with pytest.raises(RequestError, match="at least one tuned model"):
        EvaluateRequest(basis=tmp_path, base=tmp_path, tuned=())
