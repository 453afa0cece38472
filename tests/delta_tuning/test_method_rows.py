"""What stands in a row: means, steps to 90 %, remarks; and it survives a file."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from idim.delta_tuning.cost import Cost
from idim.delta_tuning.row import MethodRow, Trial, mean_curve, remark, steps_to
from idim.delta_tuning.table import changed, columns, piped, rank, scaled

ROW = MethodRow(
    method="lora",
    group="reparameterisation",
    source="E. Hu et al., LoRA",
    merges=True,
    lr=1e-3,
    tried=(Trial(lr=1e-4, score=0.5), Trial(lr=1e-3, score=0.7), Trial(lr=1e-2, score=None)),
    scores={0: 0.7, 1: 0.8, 2: 0.75},
    trained=110,
    head=10,
    changed=1000,
    added=0,
    ranks={"median": 8, "max": 8},
    stored_bytes=400,
    curve=((10, 0.4), (20, 0.8)),
    steps_to_90=18.0,
    seconds=1.5,
    cost=Cost(method="lora", precision="fp32", batch=8, length=0, forward_ms=1.0, backward_ms=2.0, optimizer_ms=0.5),
)
FULL = dataclasses.replace(ROW, method="full", group="full", scores={0: 0.76, 1: 0.78, 2: 0.77})


def test_mean_and_deviation_are_those_of_the_seeds() -> None:
    assert ROW.mean == pytest.approx(0.75)
    assert ROW.sd == pytest.approx(0.05)
    assert dataclasses.replace(ROW, scores={0: 0.7}).sd is None
    assert dataclasses.replace(ROW, scores={}).mean is None
    assert ROW.own == 100


def test_steps_to_a_share_of_the_last_score() -> None:
    assert steps_to(((10, 0.4), (20, 0.8))) == pytest.approx(10 + 10 * (0.72 - 0.4) / 0.4)
    assert steps_to(((10, 0.79), (20, 0.8))) == 10
    assert steps_to(((10, 0.9), (20, 0.1), (30, 0.5))) == 10
    assert steps_to(((10, -3.0), (20, -2.0))) is None
    assert steps_to(()) is None


def test_a_mean_curve_is_the_mean_at_every_step() -> None:
    curve = mean_curve([((10, 0.2), (20, 0.4)), ((10, 0.4), (20, 0.8))])
    assert [step for step, _ in curve] == [10, 20]
    assert [score for _, score in curve] == pytest.approx([0.3, 0.6])
    assert mean_curve([]) == ()


def test_remarks_say_chance_distance_edges_and_failures() -> None:
    assert remark(ROW, FULL, 0.5) == "within 3 points of full (-2.0)"
    far = dataclasses.replace(ROW, scores={0: 0.6, 1: 0.6})
    assert remark(far, FULL, 0.5) == "-17.0 points from full"
    assert "not above chance (0.720) in every seed" in remark(ROW, None, 0.72)
    assert "rate at the edge" in remark(dataclasses.replace(ROW, lr=1e-4), FULL, 0.5)
    assert "1 seeds failed" in remark(dataclasses.replace(ROW, failed=("too large",)), FULL, 0.5)
    assert remark(dataclasses.replace(ROW, why="no place"), FULL, 0.5) == "no place"
    lost = dataclasses.replace(ROW, scores={}, failed=("too large",))
    assert remark(lost, FULL, 0.5) == "every training failed: too large"
    assert remark(FULL, FULL, 0.5) == ""
    assert remark(far, FULL, math.nan) == "", "logarithms of perplexities have no points and no chance"


def test_a_row_survives_json() -> None:
    for row in (
        ROW,
        dataclasses.replace(ROW, cost=None, scores={}),
        MethodRow(method="x", group="y", source="z", why="w"),
    ):
        assert MethodRow.from_json(json.loads(json.dumps(row.to_json()))) == row


def test_counts_in_three_digits() -> None:
    assert [scaled(n) for n in (0, 7, 999, 1000, 22_713_216, None)] == ["0", "7", "999", "1k", "22.7M", "–"]
    assert scaled(999_600) == "1M"
    assert scaled(90_852_864, "B") == "90.9MB"


def test_changed_and_added_numbers() -> None:
    assert changed(ROW) == "1k"
    assert changed(dataclasses.replace(ROW, changed=0, added=2000)) == "+2k"
    assert changed(dataclasses.replace(ROW, changed=500, added=2000)) == "500+2k"


def test_ranks_that_differ_show_both() -> None:
    assert rank(ROW) == "8"
    assert rank(dataclasses.replace(ROW, ranks={"median": 8, "max": 10})) == "8≤10"
    assert rank(dataclasses.replace(ROW, ranks={"median": None, "max": None})) == "–"


def test_step_time_is_the_sum_of_its_parts() -> None:
    assert ROW.cost is not None
    assert ROW.cost.step_ms == pytest.approx(3.5)
    assert Cost(method="m", precision="fp32", batch=1, length=0).step_ms is None
    assert Cost(method="m", precision="fp32", batch=1, length=0, base_ms=2.0, inference_ms=3.0).added == pytest.approx(
        0.5
    )
    assert math.isclose(ROW.cost.added or 0.0, 0.0)


def test_tables_align_and_escape() -> None:
    lines = columns([("a", "bb"), ("ccc", "d")])
    assert lines == ["a    bb", "---  --", "ccc   d"]
    assert piped([("a", "b"), ("x|y", "z")]) == ["| a | b |", "| --- | --- |", "| x\\|y | z |"]
