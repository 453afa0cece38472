"""A sweep from its file to its store: what is trained, what is not trained again, what is told."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from idim.errors import RequestError
from idim.runs import Outcome, Serial, Store, database
from idim.runs.overview import Overview, Plan
from idim.runs.sweeps import probe
from idim.runs.sweeps.request import SweepRequest
from idim.runs.sweeps.sweep import dry_run, run_sweep, wanted

Ask = Callable[..., SweepRequest]

TEXT = """
task: digits
model: mlp:4
lr: 0.05
recipe: {steps: 5}
seed: {range: 2}
d: [null, 5, 9]
"""


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Return a maker of serial requests for a small sweep of six runs, or for another text."""

    def make(text: str = TEXT, *overrides: str, **options: object) -> SweepRequest:
        (tmp_path / "a.yaml").write_text(text)
        plain = {"engine": "serial", "quiet": True, "store": tmp_path / "store"}
        return SweepRequest(spec=tmp_path / "a.yaml", overrides=overrides, **(plain | options))  # type: ignore[arg-type]

    return make


def stored(path: Path) -> dict[str, Outcome]:
    with Store.read(path) as store:
        return {outcome.spec.key: outcome for outcome in store.outcomes()}


def test_a_sweep_is_what_its_runs_are(ask: Ask, tmp_path: Path) -> None:
    request = ask()
    report = run_sweep(request)
    with Store(tmp_path / "one by one") as store:
        expected = Serial(store).map(wanted(request).specs)
    assert stored(tmp_path / "store") == expected
    assert (report.runs, report.before, len(report.trained)) == (6, 0, 6)
    assert str(report) == (
        f"{tmp_path / 'a.yaml'}: 6 runs, 0 finished before, 6 trained now, 0 of them failed; store {tmp_path / 'store'}"
    )


def test_a_grown_sweep_trains_only_what_is_new(ask: Ask, tmp_path: Path) -> None:
    first = run_sweep(ask())
    with Store.read(tmp_path / "store") as store:
        rows = {row["key"]: row for row in store.rows()}
    again = run_sweep(ask())
    assert (again.before, again.trained) == (6, ())
    grown = run_sweep(ask(TEXT, "seed={range: 3}", "d=[null, 5, 9, 12]"))
    assert (grown.runs, grown.before) == (12, 6)
    assert {(o.spec.seed, o.spec.d) for o in grown.trained} == {(2, None), (2, 5), (2, 9), (0, 12), (1, 12), (2, 12)}
    assert not {o.spec.key for o in grown.trained} & {o.spec.key for o in first.trained}
    with Store.read(tmp_path / "store") as store:
        assert rows.items() <= {row["key"]: row for row in store.rows()}.items()


def test_both_engines_write_the_same(ask: Ask, tmp_path: Path, puppets: str) -> None:
    text = "{task: toy, lr: 0.5, seed: {range: 20}, d: 5}"
    report = run_sweep(ask(text, engine="processes", workers=2))
    assert [o.result.score for o in sorted(report.trained, key=lambda o: o.spec.seed) if o.result] == [
        seed / 3 for seed in range(20)
    ]
    assert run_sweep(ask(text)).before == 20


def test_shards_are_a_partition_that_growth_keeps(ask: Ask) -> None:
    text = "{task: toy, lr: 0.5, seed: {range: 30}, d: 5}"
    parts = [wanted(ask(text, shard=f"{i}/4")).specs for i in range(1, 5)]
    keys = [spec.key for part in parts for spec in part]
    assert sorted(keys) == sorted(spec.key for spec in wanted(ask(text)).specs)
    assert all(len(part) > 0 for part in parts)
    for i, part in enumerate(parts, 1):
        grown = wanted(ask(text, "seed={range: 60}", shard=f"{i}/4")).specs
        assert {spec.key for spec in part} <= {spec.key for spec in grown}
    assert wanted(ask(text, shard="1/1")) == wanted(ask(text))


def test_shards_are_gathered_without_training(ask: Ask, tmp_path: Path) -> None:
    parts = [tmp_path / "parts" / str(i) for i in (1, 2)]
    for i, part in enumerate(parts, 1):
        run_sweep(ask(shard=f"{i}/2", store=part))
    with Store(tmp_path / "store") as store:
        store.start(wanted(ask()).specs[:1])  # as a driver leaves it that was killed
    dry = dry_run(ask(reuse=tuple(parts)))
    assert (dry.runs, dry.before, dry.estimate) == (6, 6, None)
    report = run_sweep(ask(reuse=tuple(parts)))
    assert (report.before, report.trained) == (6, ())
    assert stored(tmp_path / "store") == stored(parts[0]) | stored(parts[1])
    with Store.read(tmp_path / "store") as store, Store.read(parts[0]) as part:
        assert {row["key"]: row for row in part.rows()}.items() <= {row["key"]: row for row in store.rows()}.items()
    with pytest.raises(RequestError, match="which has none"):
        run_sweep(ask(reuse=(tmp_path / "nowhere",)))


@pytest.mark.parametrize("shard", ["0/4", "5/4", "4", "a/b", "1/0", "-1/4", "1/4/2", ""])
def test_what_is_no_shard(ask: Ask, shard: str) -> None:
    with pytest.raises(RequestError, match="shard must be i/N with i from 1 to N, such as 3/8; received"):
        ask(shard=shard)


def test_failed_runs_are_told_and_stop_nothing(ask: Ask, tmp_path: Path) -> None:
    report = run_sweep(ask(TEXT, "lr=[0.05, 1e30]", "recipe.optimizer=sgd", "d=null"))
    assert [outcome.failed for outcome in report.trained].count(True) == 2
    assert "2 of them failed" in str(report)
    assert str(report).count("failed: TrainingFailed: the loss must stay finite") == 2
    assert run_sweep(ask(TEXT, "lr=[0.05, 1e30]", "recipe.optimizer=sgd", "d=null")).trained == ()
    assert "2 done, 0 cut off, 2 failed" in str(Overview.read(tmp_path / "store"))


def test_nothing_is_written_before_the_grid_is_proved(ask: Ask, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="d must be between 1 and D = 310; received d = 311"):
        run_sweep(ask(TEXT, "d=[5, 311]"))
    with pytest.raises(RequestError, match="IDIM_DATA"):
        run_sweep(ask(TEXT, "task=[digits, mnist]", data=tmp_path / "none"))
    assert not (tmp_path / "store").exists()


# -- dry run --------------------------------------------------------------------------------------------


def test_a_dry_run_counts_and_writes_nothing(ask: Ask, tmp_path: Path) -> None:
    dry = dry_run(ask())
    assert (dry.runs, dry.before) == (6, 0)
    assert not (tmp_path / "store").exists()
    run_sweep(ask(TEXT, "d=[null, 5]"))
    before = (tmp_path / "store" / "runs.sqlite").read_bytes()
    dry = dry_run(ask())
    assert (dry.runs, dry.before) == (6, 4)
    assert str(dry).startswith(f"{tmp_path / 'a.yaml'}: 6 runs, 4 finished, 2 to train\nabout ")
    assert (tmp_path / "store" / "runs.sqlite").read_bytes() == before
    run_sweep(ask())
    assert str(dry_run(ask())) == f"{tmp_path / 'a.yaml'}: 6 runs, 6 finished, 0 to train"


def test_the_estimate_is_the_sum_over_groups(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """With runs that cost 0.5 s and 0.01 s a step (full) or 0.02 s (subspace), the sum is known."""

    def pretended(spec: object, data: object) -> Outcome:
        outcome = real(spec, data)  # type: ignore[arg-type]
        assert outcome.result is not None
        step = 0.01 if outcome.spec.d is None else 0.02
        seconds = 0.5 + step * outcome.result.steps
        content = outcome.result.to_json() | {"seconds": seconds}
        return Outcome(spec=outcome.spec, result=type(outcome.result).from_json(content))

    real = probe.attempt
    monkeypatch.setattr(probe, "attempt", pretended)
    dry = dry_run(ask(TEXT, "recipe.steps=[100, 300]", engine="processes", workers=3))
    assert dry.estimate is not None
    full, sub = 2 * (2 * 0.5 + 400 * 0.01), 4 * (2 * 0.5 + 400 * 0.02)
    assert dry.estimate.seconds == pytest.approx((full + sub) / 3)
    assert (dry.estimate.probed, dry.estimate.groups) == (2, 2)


def test_the_estimate_of_the_disk_is_what_a_store_takes(ask: Ask, tmp_path: Path, puppets: str) -> None:
    text = "{task: toy, lr: 0.5, recipe: {steps: 1}, seed: {range: 300}, d: 5}"
    dry = dry_run(ask(text))
    assert dry.estimate is not None
    run_sweep(ask(text, engine="processes", workers=2))
    taken = (tmp_path / "store" / "runs.sqlite").stat().st_size
    assert 0.8 * taken < dry.estimate.bytes + 40_000 < 1.5 * taken + 40_000


def test_a_probe_that_fails_is_told(ask: Ask) -> None:
    dry = dry_run(ask(TEXT, "lr=1e30", "recipe.optimizer=sgd", "recipe.steps=100"))
    assert dry.estimate is not None
    assert dry.estimate.failures
    assert "a probe failed: " in str(dry)


# -- status -----------------------------------------------------------------------------------------------


def test_the_time_that_remains() -> None:
    plan = Plan(runs=100, finished=40, since=1000.0)
    assert plan.remaining(40, 1005.0) == (100, None)
    assert plan.remaining(60, 1010.0) == (80, 40.0)
    assert plan.remaining(140, 1010.0) == (0, 0.0)


def test_status_tells_the_driver_and_what_is_left(ask: Ask, tmp_path: Path) -> None:
    run_sweep(ask())
    specs = wanted(ask(TEXT, "seed=[5, 6]")).specs
    with Store(tmp_path / "store") as store:
        store.plan(len(specs))
        store.start(specs[:2])
        view = Overview.read(tmp_path / "store")
        assert (view.done, view.started, view.driven, view.left, view.seconds) == (6, 2, True, 6, None)
        assert "2 running" in str(view)
        assert "6 to go: no run has finished yet" in str(view)
        time.sleep(0.01)
        store.finish([Outcome(spec=specs[0], message="no")])
        view = Overview.read(tmp_path / "store")
        assert (view.failed, view.left) == (1, 5)
        assert view.seconds is not None
        assert view.seconds >= 0.05
        assert "5 to go: about " in str(view)
    view = Overview.read(tmp_path / "store")
    assert (view.left, view.driven) == (None, False)
    assert "1 cut off" in str(view)
    with Store(tmp_path / "store"):  # another driver, without a plan
        assert Overview.read(tmp_path / "store").left is None


def test_many_failures_are_counted_and_some_told(tmp_path: Path, ask: Ask) -> None:
    specs = wanted(ask("{task: toy, lr: 0.5, seed: {range: 45}}")).specs
    with Store(tmp_path / "store") as store:
        store.start(specs)
        store.finish([Outcome(spec=spec, message="because") for spec in specs])
    lines = str(Overview.read(tmp_path / "store")).splitlines()
    assert len(lines) == 22
    assert lines[-1] == "  ... and 25 more failed; idim export has them all"


def test_an_earlier_store_gets_the_index_and_keeps_its_rows(tmp_path: Path, ask: Ask) -> None:
    run_sweep(ask())
    before = stored(tmp_path / "store")
    connection = database.open_or_create(tmp_path / "store" / "runs.sqlite")
    connection.execute("DROP INDEX runs_by_status")
    connection.close()
    assert "6 done" in str(Overview.read(tmp_path / "store"))
    run_sweep(ask())
    assert stored(tmp_path / "store") == before
    with Store.read(tmp_path / "store") as store:
        plan = store._connection.execute("EXPLAIN QUERY PLAN SELECT status, count(*) FROM runs GROUP BY status")
        assert "COVERING INDEX runs_by_status" in json.dumps([list(row) for row in plan.fetchall()])
