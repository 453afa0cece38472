"""Ray itself: the bits of serial, workers, nodes and drivers that are killed, clusters that cannot be joined.

Slow, for each starts a cluster; skipped where ray is not installed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import random
import secrets
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from idim import tasks
from idim.runs import Outcome, Ray, RunSpec, Serial, Store, ray_cluster
from idim.runs.overview import Overview

MISSING = importlib.util.find_spec("ray") is None  # not imported here: most runs of the tests leave these out
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(MISSING, reason="needs ray: pip install 'idim-toolkit[ray]'"),
]

SpecMaker = Callable[..., RunSpec]
NODE = {"num_cpus": 2, "object_store_memory": 80 << 20, "include_dashboard": False}
TASK = "ray::serve_on_node"  # what Ray calls a worker while it serves


def ray_processes() -> list[psutil.Process]:
    """Return the processes of every cluster of this user on this machine."""
    words = ("raylet", "gcs_server")
    return [p for p in psutil.process_iter() if p.name() in words]


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Yield a cluster of two nodes on this machine, behind a token."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    path = os.pathsep.join(str(Path(folder).resolve()) for folder in [Path(tasks.__file__).parents[2]])
    monkeypatch.setenv("PYTHONPATH", path)
    ray = ray_cluster._library()  # it may have been imported for an earlier test, with another token
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    try:
        cluster.add_node(**NODE)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def sixty(steps: int, data: Path) -> list[RunSpec]:
    """Return 60 runs of networks on digits and on MNIST, 20 of them full trainings."""
    found = []
    for name, model in (("digits", "mlp:32"), ("mnist", "mlp:100")):
        task = tasks.load(name, data=data)
        recipe = dataclasses.replace(task.recipe, steps=steps)
        shared = {"task": task.name, "fingerprint": task.fingerprint, "model": model, "recipe": recipe}
        for seed in range(5):
            found += [RunSpec(method="full", lr=lr, seed=seed, **shared) for lr in (0.003, 0.01)]  # type: ignore[arg-type]
            found += [
                RunSpec(method="subspace", projection=kind, d=d, lr=0.1, seed=seed, **shared)  # type: ignore[arg-type]
                for kind in ("hadamard", "sparse")
                for d in (20, 200)
            ]
    return found


def serving(parent: int) -> list[psutil.Process]:
    """Return the workers of a node that serve a run at this moment."""
    return [p for p in psutil.Process(parent).children(recursive=True) if TASK in " ".join(p.cmdline())]


def kill_a_worker(raylet: int) -> int:
    """Kill a worker in the middle of a run; return how many runs that loses."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        for worker in serving(raylet):
            worker.kill()
            return 1
        time.sleep(0.001)
    raise AssertionError("no worker served anything")


def kill_a_node(raylet: int) -> int:
    """Kill a node with all that runs on it; return how many runs were on it at most."""
    everything = [psutil.Process(raylet), *psutil.Process(raylet).children(recursive=True)]
    for process in everything:
        if process.is_running():
            process.kill()
    return NODE["num_cpus"]


def test_a_worker_and_a_node_killed_in_the_middle_of_sixty_runs(nodes: Any, tmp_path: Path, data_folder: Path) -> None:
    specs = sixty(steps=60, data=data_folder)
    raylets = [node.all_processes["raylet"][0].process.pid for node in [nodes.head_node, *nodes.worker_nodes]]
    told, lost = list[Outcome](), list[int]()

    def disturb(outcome: Outcome) -> None:
        told.append(outcome)
        if len(told) == 15:
            lost.append(kill_a_worker(raylets[0]))
        if len(told) == 30:
            lost.append(kill_a_node(raylets[1]))

    with Store(tmp_path / "serial") as store, Serial(store, data_folder) as serial:
        expected = serial.map(specs)
    with Store(tmp_path / "ray") as store:
        with Ray(store, data_folder, address=nodes.address) as engine:
            assert engine.map(specs, disturb) == expected
        assert list(store.outcomes()) == sorted(expected.values(), key=lambda outcome: outcome.spec.key)
        assert store.counts() == {"done": len(specs)}
        again = [row["attempt"] - 1 for row in store.rows() if row["attempt"] > 1]
    print(f"{len(told)} runs, {len(again)} of them repeated, at most {sum(lost)} lost")
    assert len(told) == len(specs) == 60
    assert 1 <= sum(again) <= sum(lost), "only what was lost is repeated"


def test_a_cluster_of_its_own_has_a_token_and_ends_with_the_engine(tmp_path: Path, spec: SpecMaker) -> None:
    before = {p.pid for p in ray_processes()}
    specs = [*(spec(seed=seed) for seed in range(6)), spec(lr=1e300, optimizer="sgd")]
    with Store(tmp_path / "ray") as store, Ray(store, workers=2) as engine:
        outcomes = engine.map(specs)
        (server,) = [p for p in ray_processes() if p.pid not in before and p.name() == "gcs_server"]
        variables = server.environ()
        assert engine.map([*specs, spec(seed=9)])[spec(seed=9).key].result
    with Store(tmp_path / "serial") as store, Serial(store) as serial:
        assert serial.map(specs) == outcomes
    assert (variables["RAY_AUTH_MODE"], len(variables["RAY_AUTH_TOKEN"])) == ("token", 64)
    assert variables["RAY_USAGE_STATS_ENABLED"] == "0"
    assert "RAY_AUTH_TOKEN" not in os.environ, "the driver's own variables are left as they were"
    assert {p.pid for p in ray_processes()} <= before


SWEEP = "{task: digits, model: 'mlp:4', recipe: {steps: 40}, seed: {range: 60}, lr: [0.01, 1.0e+300]}"


def sweep(folder: Path, engine: str, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "idim", "sweep", str(folder / "a.yaml"), "--store", str(folder / engine)]
    return subprocess.Popen(
        [*command, "--engine", engine, "--quiet", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(Path(tasks.__file__).parents[2])},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def finished(store: Path) -> dict[str, tuple[Any, ...]]:
    """Return every finished row, after an integrity check."""
    if not (store / "runs.sqlite").exists():
        return {}
    with closing(sqlite3.connect(store / "runs.sqlite")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return {row[0]: row for row in connection.execute("SELECT * FROM runs WHERE status <> 'running'")}


def wait_for_more(store: Path, process: subprocess.Popen[str], seconds: float) -> None:
    before, until = len(finished(store)), time.monotonic() + seconds
    while len(finished(store)) == before and time.monotonic() < until and process.poll() is None:
        time.sleep(0.05)


def left_over(children: list[psutil.Process], seconds: float = 60) -> list[psutil.Process]:
    return psutil.wait_procs(children, timeout=seconds)[1]


def agents(children: list[psutil.Process]) -> list[psutil.Process]:
    """Return Ray's helpers of a node, which do no work and outlive it by a minute or two."""
    found = []
    for process in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.name() in ("ray::DashboardAgent", "ray::RuntimeEnvAgent"):
                found.append(process)
    return found


@pytest.mark.parametrize("kills", [3])
def test_killed_drivers_leave_nothing_behind_and_lose_nothing(kills: int, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(SWEEP)
    moments, kept, idle = random.Random(kills), dict[str, tuple[Any, ...]](), list[psutil.Process]()
    for _ in range(kills):
        driver = sweep(tmp_path, "ray", "--workers", "2")
        wait_for_more(tmp_path / "ray", driver, moments.choice([5.0, 60.0, 60.0]))
        time.sleep(moments.uniform(0, 0.3))
        children = psutil.Process(driver.pid).children(recursive=True)
        idle += agents(children)
        driver.kill()
        driver.communicate()
        assert not left_over([p for p in children if p not in idle]), "a cluster must not outlive its driver"
        now = finished(tmp_path / "ray")
        assert {key: now[key] for key in kept} == kept, "a finished run was lost or trained again"
        kept = now
    for engine in ("ray", "serial"):
        last = sweep(tmp_path, engine)
        assert last.wait() == 0, last.communicate()
    with Store.read(tmp_path / "ray") as one, Store.read(tmp_path / "serial") as other:
        assert list(one.outcomes()) == list(other.outcomes())
    view = Overview.read(tmp_path / "ray")
    assert (view.done, view.started, view.failed) == (60, 0, 60)
    assert not left_over(idle, seconds=180)


def test_an_interrupt_is_130_and_ends_the_cluster(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(SWEEP.replace("60", "3000"))
    driver = sweep(tmp_path, "ray", "--workers", "2")
    wait_for_more(tmp_path / "ray", driver, 90)
    children = psutil.Process(driver.pid).children(recursive=True)
    driver.send_signal(signal.SIGINT)
    out, err = driver.communicate(timeout=60)
    assert driver.returncode == 130, err
    assert "interrupted; what is finished is kept" in err
    assert "Traceback" not in out + err
    assert not left_over(children)
    with Store.read(tmp_path / "ray") as store:
        assert store.counts().keys() <= {"done", "failed"}
        assert store.counts()["done"] > 0


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no-such-host.invalid:6379", "auto"])
def test_a_cluster_that_cannot_be_reached_is_one_line(address: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(SWEEP)
    began = time.monotonic()
    driver = sweep(tmp_path, "ray", "--address", address)
    out, err = driver.communicate()
    print(f"{address}: {time.monotonic() - began:.1f} s: {err}")
    assert (driver.returncode, out) == (2, "")
    assert err.startswith(f"idim: the Ray cluster {address} must run, and this machine be one of its nodes; received")
    assert err.count("\n") == 1


def test_what_no_node_can_hold_is_refused(tmp_path: Path, nodes: Any) -> None:
    (tmp_path / "a.yaml").write_text(SWEEP)
    driver = sweep(tmp_path, "ray", "--address", nodes.address, "--set", "resources.gpus=0.25")
    assert driver.wait() == 2
    assert (
        driver.communicate()[1]
        == "idim: a run must fit on one node; received cpus 1 and gpus 0.25 a run, and nodes of cpus 2 and gpus 0\n"
    )


def test_the_wrong_token_is_one_line(tmp_path: Path, nodes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.yaml").write_text(SWEEP)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "another")
    driver = sweep(tmp_path, "ray", "--address", nodes.address)
    assert driver.wait() == 2
    err = driver.communicate()[1]
    print(err)
    assert err.count("\n") == 1
    assert "no answer of Ray's within 10 s, as when its token is another" in err
