"""From sections to specs: the product of the values of every key.

``d`` decides the method unless ``method`` says it: a number trains in a subspace (``projection`` is hadamard unless
given), null or no ``d`` trains in full. The model and the recipe are the task's own unless given, ``seed`` is 0,
and the head of a network for texts is trained directly. Seeds turn more slowly than d, so that the whole curve of
one seed comes before the next.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from idim.errors import RequestError
from idim.runs.heads import HEAD_LR, usual_head
from idim.runs.resources import Resources
from idim.runs.spec import RunSpec
from idim.runs.sweeps.check import Shop
from idim.runs.sweeps.document import Section, sections, shown
from idim.runs.sweeps.values import MOST, Rate, Read, number, optional, rate, text, truth, values, whole
from idim.tasks import Recipe

Point = Mapping[str, Any]
"""One value for every key of a section."""

READERS: dict[type, Read] = {int: whole, float: number, bool: truth}
RECIPE = {f"recipe.{name}": READERS.get(kind, text) for name, kind in typing.get_type_hints(Recipe).items()}
OWN: dict[str, Read] = {
    "task": text,
    "model": text,
    "head": text,
    "head_lr": optional(number),
    "method": text,
    "projection": text,
    "lr": rate,
    "seed": whole,
    "d": optional(whole),
    "evaluations": whole,
    "anatomy": truth,
}
FIELDS = {"task": OWN["task"], "model": OWN["model"], **RECIPE, **OWN}
"""What a run may have, from what turns slowest in the product to what turns fastest."""
RESOURCES = tuple(f"resources.{field.name}" for field in dataclasses.fields(Resources))


@dataclass(frozen=True)
class Grid:
    """The runs of a sweep.

    Attributes:
        specs: each run once, in the order they should be trained.
        resources: what runs reserve on a cluster, by key, where the file says so.
    """

    specs: Sequence[RunSpec]
    resources: Mapping[str, Resources]


def read_grid(path: Path, overrides: Sequence[str], data: Path | None) -> Grid:
    """Return the runs of a sweep; every one can work.

    Args:
        path: the YAML file.
        overrides: such as ``"task=mnist"``, put over every grid.
        data: the data folder, as for :func:`idim.tasks.load`.

    Raises:
        RequestError: for a file that says something unknown, no run or more than a million, missing data, or
            a run that cannot work: an unknown name, a d beyond D.
    """
    found = sections(path, overrides, [*FIELDS, *RESOURCES])
    grids = [(_values(section, path), _resources(section)) for section in found]
    count = sum(math.prod(map(len, grid.values())) for grid, _ in grids)
    if count > MOST:
        raise RequestError(f"{path}: a sweep takes at most {MOST:,} runs; received a grid of {count:,}")
    shop = Shop(data)
    specs: dict[str, RunSpec] = {}
    reserved: dict[str, Resources] = {}
    for grid, resources in grids:
        runs = {spec.key: spec for spec in _specs(grid, shop, path)}
        specs |= runs
        reserved |= {} if resources is None else dict.fromkeys(runs, resources)
    return Grid(list(specs.values()), reserved)


def _resources(section: Section) -> Resources | None:
    """Return what the runs of a section reserve, where it says so."""
    given = {name: section[name] for name in RESOURCES if name in section}
    if not given:
        return None
    shares = {}
    for name, entry in given.items():
        several = values(entry, number)
        if len(several) > 1:
            raise RequestError(f"{entry.where}: {name} takes one value in a grid; received {shown(entry.value)}")
        shares[name.removeprefix("resources.")] = several[0]
    try:
        return Resources(**shares)
    except RequestError as error:
        raise RequestError(f"{next(iter(given.values())).where}: {error}") from error


def _values(section: Section, path: Path) -> dict[str, tuple[Any, ...]]:
    for name in ("task", "lr"):
        if name not in section:
            raise RequestError(f"{path}: every grid needs {name!r}; received one with {sorted(section) or 'nothing'}")
    return {name: values(section[name], read) for name, read in FIELDS.items() if name in section}


def _specs(grid: Mapping[str, tuple[Any, ...]], shop: Shop, path: Path) -> Iterator[RunSpec]:
    for combination in itertools.product(*grid.values()):
        point = dict(zip(grid, combination, strict=True))
        try:
            spec = _spec(point, shop)
            shop.check(spec)
        except RequestError as error:
            raise RequestError(f"{path}: {error}{_which(point, grid)}") from error
        yield spec


def _which(point: Point, grid: Mapping[str, tuple[Any, ...]]) -> str:
    """Return which run of the grid it was, by the keys that have several values."""
    several = [f"{name} {_said(point[name])}" for name, found in grid.items() if len(found) > 1]
    return f" (the run with {', '.join(several)})" if several else ""


def _said(value: Any) -> str:
    return f"{value.constant:g}{'/sqrt(d)' if value.power else ''}" if isinstance(value, Rate) else str(value)


def _spec(point: Point, shop: Shop) -> RunSpec:
    task = shop.task(point["task"])
    d = point.get("d")
    method = point.get("method", "full" if d is None else "subspace")
    model = shop.model(point.get("model", task.default_model))
    head = point.get("head", usual_head(model, task))
    return RunSpec(
        task=task.name,
        fingerprint=task.fingerprint,
        model=model,
        method=method,
        projection=shop.projection(_projection(point, d)),
        d=d,
        lr=point["lr"].at(d),
        recipe=_recipe(task.recipe, _changes(point)),
        seed=point.get("seed", 0),
        head=head,
        head_lr=point.get("head_lr", HEAD_LR if head == "trained" else None),
        evaluations=point.get("evaluations", 0),
        anatomy=point.get("anatomy", False),
    )


def _projection(point: Point, d: int | None) -> str | None:
    """Return the projection; a null among the values of d leaves it out."""
    if d is None and "d" in point:
        return None
    given: str | None = point.get("projection", None if d is None else "hadamard")
    return given


def _changes(point: Point) -> tuple[tuple[str, Any], ...]:
    return tuple((name.removeprefix("recipe."), value) for name, value in point.items() if name in RECIPE)


@functools.lru_cache(maxsize=1024)
def _recipe(usual: Recipe, changes: tuple[tuple[str, Any], ...]) -> Recipe:
    """Return one recipe object for all runs that share it: a large grid has few."""
    return dataclasses.replace(usual, **dict(changes))
