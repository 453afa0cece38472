"""Which engine serves a request, and what is refused before anything is read."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idim.delta_tuning.request import MethodsRequest
from idim.dimension.request import MeasureRequest
from idim.errors import RequestError
from idim.runs import Processes, Ray, Resources, Serial, Store, engines
from idim.runs.sweeps.request import SweepRequest


def sweep_request(**options: Any) -> SweepRequest:
    return SweepRequest(spec=Path("a.yaml"), **options)


REQUESTS = [MeasureRequest, MethodsRequest, sweep_request]
Make = Callable[..., MeasureRequest | MethodsRequest | SweepRequest]


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Return what makes ray look installed, or not."""

    def pretend(there: bool) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if there else None)

    return pretend


@pytest.mark.parametrize("make", REQUESTS)
def test_each_command_takes_each_engine(make: Make, tmp_path: Path, library: Callable[[bool], None]) -> None:
    library(True)
    kinds = {"processes": Processes, "serial": Serial, "ray": Ray}
    with Store(tmp_path) as store:
        for name, kind in kinds.items():
            assert type(engines.create(make(engine=name), store)) is kind
        processes = engines.create(make(workers=7), store)
        assert isinstance(processes, Processes)
        assert processes.workers == 7


@pytest.mark.parametrize("make", REQUESTS)
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"engine": "rya"}, "unknown engine 'rya'; did you mean 'ray'?"),
        ({"engine": "serial", "workers": 2}, "received workers 2 with engine 'serial'"),
        ({"address": "auto"}, "address belongs to the engine 'ray'; received address 'auto' with engine 'processes'"),
        ({"engine": "ray", "address": "auto", "workers": 2}, "leave one of them out"),
        ({"engine": "ray", "address": "ray://head:10001"}, "HOST:PORT or auto, on a node of the cluster; received"),
        ({"engine": "ray", "address": "head"}, "received 'head'"),
    ],
)
def test_options_that_do_not_go_together(make: Make, options: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError) as caught:
        make(**options)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_the_library_the_extra_is_named(tmp_path: Path, library: Callable[[bool], None]) -> None:
    library(False)
    with Store(tmp_path) as store:
        with pytest.raises(RequestError, match=r"pip install 'idim-toolkit\[ray\]', or take engine 'processes'"):
            engines.create(sweep_request(engine="ray"), store)
        assert engines.create(sweep_request(), store)


def test_a_cluster_says_how_many() -> None:
    assert sweep_request(engine="ray", address="head:6379").worker_count == 1
    assert sweep_request(engine="ray", workers=3).worker_count == 3


def test_resources_are_shares_of_a_node() -> None:
    assert Resources().fits(cpus=4, gpus=0) == 4
    assert Resources(gpus=0.25).fits(cpus=4, gpus=1) == 4
    assert Resources(gpus=0.25).fits(cpus=4, gpus=0) == 0
    assert Resources(cpus=3).fits(cpus=8, gpus=0) == 2
    assert (str(Resources()), str(Resources(gpus=0.5))) == ("cpus 1", "cpus 1 and gpus 0.5")


@given(parts=st.integers(1, 1000), nodes=st.integers(1, 64))
def test_parts_of_a_core_fit_as_often_as_they_say(parts: int, nodes: int) -> None:
    assert Resources(cpus=1 / parts).fits(cpus=nodes, gpus=0) == parts * nodes


@pytest.mark.parametrize("cpus", [0, -1, float("nan"), float("inf"), 1.5])
def test_shares_out_of_range(cpus: float) -> None:
    with pytest.raises(RequestError, match="cpus of a run must be"):
        Resources(cpus=cpus)
    if cpus:
        with pytest.raises(RequestError, match="gpus of a run must be"):
            Resources(gpus=cpus)
