"""Names beside the points of a picture, clear of the points and of each other."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = 8  # points
WIDTH, HEIGHT = 0.62, 1.3  # of a letter and a line, as shares of the size
GAP = 6.0  # points between a point and its name
SHIFTS = 24  # tried up and down, before a name is put where it overlaps
FAR = 9.0  # points from which on a name has a line to its point

Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Named:
    """A point with its name."""

    x: float
    y: float
    name: str
    colour: str


def label(ax: Axes, points: Sequence[Named], *, left: bool = True) -> None:
    """Write names beside points, each to the right, or to the ``left``, and up or down until it is clear."""
    figure = ax.get_figure(root=True)
    if figure is None or not points:
        return
    figure.draw_without_rendering()  # the axes must know their size
    unit = figure.dpi / 72
    places = [(float(px) / unit, float(py) / unit) for px, py in (ax.transData.transform((p.x, p.y)) for p in points)]
    edge = ax.get_window_extent().x1 / unit
    taken: list[Box] = [(x - 4, y - 4, x + 4, y + 4) for x, y in places]
    for (x, y), point in sorted(zip(places, points, strict=True), key=lambda item: (-item[0][1], item[0][0])):
        dx, dy, box = _clear(x, y, point.name, taken, edge, left=left)
        taken.append(box)
        ax.annotate(
            point.name, (point.x, point.y), xytext=(dx, dy), textcoords="offset points", va="center",
            ha="left" if dx > 0 else "right", fontsize=SIZE, color=point.colour, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "lw": 0.4, "color": point.colour} if abs(dy) > FAR else None,
        )  # fmt: skip


def _clear(x: float, y: float, name: str, taken: Sequence[Box], edge: float, *, left: bool) -> tuple[float, float, Box]:
    """Return the first place that overlaps nothing, and its box."""
    width, height = WIDTH * SIZE * len(name), HEIGHT * SIZE
    places = list(_places(left=left))
    for dx, dy in places:
        x0 = x + dx if dx > 0 else x + dx - width
        box = (x0, y + dy - height / 2, x0 + width, y + dy + height / 2)
        if not (left and box[2] > edge) and not any(_overlap(box, other) for other in taken):
            return dx, dy, box
    dx, dy = places[0]
    return dx, dy, (x + dx, y - height / 2, x + dx + width, y + height / 2)


def _places(*, left: bool) -> Iterator[tuple[float, float]]:
    """Yield offsets from a point, the nearest first."""
    sides = (GAP, -GAP) if left else (GAP,)
    for step in itertools.chain([0], *((i, -i) for i in range(1, SHIFTS))):
        for side in sides:
            yield side, 4.0 * step


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
