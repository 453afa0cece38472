"""``idim bound``: what it says of a run is what one finds by hand, and what it refuses is one line."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from bound_cases import TASK, spec_of, user_net

from idim import Subspace, models
from idim.cli import main
from idim.errors import RequestError
from idim.runs import Store
from idim.theory import finished
from idim.theory.bounding import bound, bound_runs
from idim.theory.bounds import bounds
from idim.theory.certificate import Coding
from idim.theory.codes import adaptive_bits, elias_bits
from idim.theory.report import BoundReport
from idim.theory.selection import Chosen

QUICK: dict[str, Any] = {"levels": "3,9", "tune": 20, "quiet": True}


@pytest.fixture(scope="module")
def made(store: Path) -> tuple[Path, BoundReport]:
    out = store.parent / "out"
    report = bound(store=store, model="mlp:16", out=out, **QUICK)
    report.save(out)
    return out, report


def by_hand(folder: Path) -> tuple[float, float, torch.Tensor]:
    """Return shares of wrong answers, and z, of a network that ``idim bound`` has written."""
    seed = json.loads((folder / "run.json").read_text())["seed"]
    net = models.build("mlp:16", input_shape=TASK.input_shape, outputs=TASK.outputs, seed=seed)
    space = Subspace.load(folder, net)
    plain = space.merged().eval()
    with torch.no_grad():
        shares = [
            float((plain(split.inputs).argmax(dim=1) != split.targets).double().mean())  # type: ignore[arg-type]
            for split in (TASK.train, TASK.report)
        ]
    return shares[0], shares[1], space.z.detach()


def test_a_certificate_is_what_one_finds_by_hand(made: tuple[Path, BoundReport], store: Path) -> None:
    out, report = made
    assert [(c.d, c.m, c.tests) for c in report.certificates] == [(60, 1078, 360), (100, 1078, 360)]
    for c in report.certificates:
        key = spec_of(c.d, seed=c.seed).key
        train, test, z = by_hand(out / "coded" / key)
        assert (c.errors.train, c.errors.test) == (pytest.approx(train, abs=1e-12), pytest.approx(test, abs=1e-12))
        counts = z.unique(return_counts=True)[1].tolist()
        assert c.levels == (len(counts),)
        assert c.bits.codes == pytest.approx(adaptive_bits(counts), abs=1e-9)
        assert c.bits.codebook == 16 * len(counts)
        seeds = 2 * elias_bits(2 * c.seed or 1)
        settings = elias_bits(c.d) + seeds + elias_bits(len(counts)) + 64 + math.log2(2)  # two networks in the store
        assert c.bits.settings == pytest.approx(settings)
        again = bounds(train, m=1078, bits=c.bits.total, delta=0.05)
        assert dataclasses.astuple(c.bounds) == pytest.approx(dataclasses.astuple(again), abs=1e-12)
        assert c.bounds.kl >= c.errors.test
        assert not c.vacuous


def test_the_run_is_trained_again_to_the_same_numbers(made: tuple[Path, BoundReport], store: Path) -> None:
    _, report = made
    with Store.read(store) as opened:
        for c in report.certificates:
            outcome = opened.get(spec_of(c.d, seed=c.seed))
            assert outcome is not None
            assert outcome.result is not None
            assert 1 - c.before.test == pytest.approx(outcome.result.score, abs=1e-12)


def test_the_best_run_of_each_d_is_taken(made: tuple[Path, BoundReport], store: Path) -> None:
    _, report = made
    with Store.read(store) as opened:
        scores = {seed: opened.get(spec_of(seed=seed)).result.selection_score for seed in (0, 1)}  # type: ignore[union-attr]
    assert report.certificates[0].seed == max(scores, key=scores.__getitem__)


def test_what_is_done_is_not_done_again(
    made: tuple[Path, BoundReport], store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("trained again")

    out, report = made
    monkeypatch.setattr(finished, "fit", never)
    assert bound(store=store, model="mlp:16", out=out, **QUICK) == report
    shutil.copytree(out / "trained", tmp_path / "trained")
    other = bound(store=store, model="mlp:16", dims="100", out=tmp_path, **QUICK | {"delta": 0.01, "tune": 0})
    assert other.delta == 0.01
    assert other.certificates[0].d == 100
    assert not other.certificates[0].tuned


def test_a_folder_that_says_its_run_needs_nothing_else(made: tuple[Path, BoundReport], tmp_path: Path) -> None:
    out, report = made
    folder = out / "coded" / spec_of(100).key
    again = bound(folder, out=tmp_path, levels="9", tune=0, quiet=True).certificates[0]
    assert again.errors == next(c for c in report.certificates if c.d == 100).errors  # already at levels


def test_a_key_names_a_run(store: Path, tmp_path: Path) -> None:
    report = bound(spec_of(seed=1).key[:10], store=store, out=tmp_path, levels="5", tune=0, quiet=True)
    assert [(c.d, c.seed) for c in report.certificates] == [(60, 1)]
    assert report.certificates[0].bits.settings == pytest.approx(
        elias_bits(60) + 2 * elias_bits(2) + elias_bits(5) + 64 + 1
    )


def test_a_folder_saved_by_hand_and_what_trained_beside_z(tmp_path: Path) -> None:
    name = user_net(tmp_path)
    net = models.build(name, input_shape=TASK.input_shape, outputs=10, seed=4)
    space = Subspace(net, d=30, seed=7, train=("2.*",))
    optimizer = torch.optim.Adam(space.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        TASK.loss(space(TASK.train.inputs), TASK.train.targets).backward()
        optimizer.step()
    space.save(tmp_path / "saved")
    c = bound(
        tmp_path / "saved", task="digits", model=name, seed=4, levels="7", tune=10, out=tmp_path / "out", quiet=True
    ).certificates[0]
    assert (c.d, c.numbers, len(c.levels)) == (30, 30 + 8 * 10 + 10, 2)
    assert c.bits.codebook == 16 * sum(c.levels)
    assert c.bits.settings == pytest.approx(
        elias_bits(30) + elias_bits(8) + elias_bits(14) + sum(map(elias_bits, c.levels)) + 64
    )
    assert c.errors.train < 0.5


def test_more_certainty_or_more_choice_costs(store: Path, tmp_path: Path) -> None:
    arguments = {"store": store, "model": "mlp:16", "dims": "60", "levels": "5", "tune": 0, "quiet": True}
    plain, surer, freer = (
        bound(out=tmp_path / name, **arguments, **more).certificates[0]
        for name, more in {"a": {}, "b": {"delta": 1e-6}, "c": {"extra_bits": 50.0}}.items()
    )
    assert plain.errors == surer.errors == freer.errors
    assert plain.bounds.kl < surer.bounds.kl
    assert freer.bits.settings == pytest.approx(plain.bits.settings + 50)
    assert plain.bounds.kl < freer.bounds.kl


def test_a_bound_that_says_nothing_is_said_to(tmp_path: Path) -> None:
    spec = spec_of(5, recipe=dataclasses.replace(TASK.recipe, steps=1))
    report = bound_runs([Chosen(spec=spec, choice=400.0)], Coding(levels=(3,), tune=0), out=tmp_path)
    assert report.certificates[0].vacuous
    assert "vacuous: guessing errs in 90 %" in str(report)
    assert report.to_dict()["certificates"][0]["vacuous"] is True


def test_a_report_comes_back_and_fits_a_terminal(made: tuple[Path, BoundReport], tmp_path: Path) -> None:
    out, report = made
    assert BoundReport.load(out) == report
    assert max(map(len, str(report).splitlines())) <= 80
    assert f"{100 * report.best.bounds.kl:.2f} %" in str(report)
    assert list(report.to_frame().d) == [60, 100]
    with pytest.raises(RequestError, match="must be a report of idim bound"):
        BoundReport.load(tmp_path)


def test_the_command(made: tuple[Path, BoundReport], store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, report = made
    arguments = ["bound", "--store", str(store), "--model", "mlp:16", "--levels", "3,9", "--tune", "20"]
    with pytest.raises(SystemExit) as leaving:
        main([*arguments, "--out", str(out)])
    assert leaving.value.code == 0
    said = capsys.readouterr().out
    assert str(report) in said
    assert json.loads((out / "report.json").read_text())["certificates"][0]["m"] == 1078


def test_a_picture_is_drawn(made: tuple[Path, BoundReport]) -> None:
    from idim import plots

    with plots.figure() as (_, ax):
        made[1].plot(ax)
        assert [line.get_label() for line in ax.get_lines()] == ["guessing", "bound", "test rows", "training rows"]
