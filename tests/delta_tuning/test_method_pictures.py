"""Pictures of a table of methods: names stay apart and in sight, every row has its mark."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text

from idim import plots
from idim.delta_tuning import picture
from idim.delta_tuning.cost import Cost
from idim.delta_tuning.labels import GAP, Named, label
from idim.delta_tuning.row import MethodRow

COST = Cost(
    method="m", precision="fp32", batch=8, length=0, peak_mb=90.0, forward_ms=1.0, backward_ms=2.0, optimizer_ms=0.5
)
ROWS = [
    MethodRow(
        method=name, group=group, source="s", through=name != "probe", scores={0: score, 1: score + 0.02},
        trained=trained, head=10, curve=((10, score / 2), (20, score)), steps_to_90=19.0, cost=COST,
    )
    for name, group, trained, score in (
        ("full", "full", 10**6, 0.9),
        ("probe", "full", 10, 0.6),
        ("bitfit", "specification", 1010, 0.85),
        ("adapter+bitfit", "addition", 5010, 0.88),
    )
]  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_names_do_not_overlap(seed: int) -> None:
    places = np.random.default_rng(seed).random((12, 2)) ** 2  # thick in one corner
    with plots.figure(figsize=(8, 5)) as (fig, ax):
        ax.set(xlim=(0, 1), ylim=(0, 1))
        label(ax, [Named(x=x, y=y, name=f"name {i}", colour="black") for i, (x, y) in enumerate(places)])
        fig.draw_without_rendering()
        boxes = [Text.get_window_extent(text) for text in ax.texts]  # of the words, without their line
        assert len(boxes) == len(places)
        for i, one in enumerate(boxes):
            assert not any(one.overlaps(other) for other in boxes[i + 1 :])


def test_a_name_at_the_right_edge_stands_on_the_left() -> None:
    with plots.figure() as (_, ax):
        ax.set(xlim=(0, 1), ylim=(0, 1))
        label(ax, [Named(x=1.0, y=0.5, name="a long name", colour="black")])
        assert ax.texts[0].xyann[0] == -GAP  # type: ignore[attr-defined]


def test_every_method_is_drawn_and_named() -> None:
    with plots.figure() as (_, ax):
        picture.scores(ax, ROWS, chance=0.5, metric="accuracy")
        assert {text.get_text() for text in ax.texts} == {"chance", *(row.method for row in ROWS)}
        legend = ax.get_legend()
        assert legend is not None
        names = [text.get_text() for text in legend.get_texts()]
        assert names == ["full", "specification", "combined", "no gradient through"]


@pytest.mark.parametrize(
    ("changes", "axes"), [({}, 5), ({"cost": None}, 3), ({"cost": None, "curve": (), "steps_to_90": None}, 1)]
)
def test_a_sheet_has_the_panels_there_are_numbers_for(changes: dict[str, object], axes: int) -> None:
    rows = [dataclasses.replace(row, **changes) for row in ROWS]  # type: ignore[arg-type]
    with plots.canvas(figsize=picture.sheet_size(rows)) as fig:
        picture.sheet(fig, rows, title="t", chance=float("nan"), metric="accuracy")
        assert len(fig.axes) == axes


def test_bars_add_up_to_the_step() -> None:
    with plots.figure() as (_, ax):
        picture.times(ax, ROWS[:1])
        ends = [bar.get_x() + bar.get_width() for bar in ax.patches]  # type: ignore[attr-defined]
        assert max(ends) == pytest.approx(3.5)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("count", [1, 4])
def test_few_methods_fill_a_sheet_too(count: int, tmp_path: Path) -> None:
    with plots.canvas(figsize=picture.sheet_size(ROWS[-count:])) as fig:
        picture.sheet(fig, ROWS[-count:], title="t", chance=0.1, metric="accuracy")
        plots.save(fig, tmp_path / "sheet.png")
        low, high = fig.axes[0].get_xlim()
        assert all(low < (row.own or 1) < high for row in ROWS[-count:])
