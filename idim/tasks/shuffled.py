"""``mnist:shuffled-pixels`` and ``mnist:shuffled-labels[,rows=N]``: images without their order.

- ``shuffled-pixels``: one fixed permutation of the pixels, the same for every image of every split. A network of
  full layers learns it as before; one that looks at neighbours has lost them.
- ``shuffled-labels``: the labels of N training rows (all of them unless ``rows`` is given) change places among
  these rows. Nothing is left to generalise, so the three splits are the same rows, and the score is the share that
  is known by heart.

Both orders are those of hashes of numbers (:func:`idim.tasks.task.hashed_order`), the same everywhere.

Source: C. Li, H. Farkhoor, R. Liu and J. Yosinski, Measuring the Intrinsic Dimension of Objective Landscapes, 2018,
arXiv:1804.08838, sections 3.2 and S5; C. Zhang, S. Bengio, M. Hardt, B. Recht and O. Vinyals, Understanding deep
learning requires rethinking generalization, 2017, arXiv:1611.03530.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable

from torch import Tensor

from idim.errors import RequestError, unknown
from idim.tasks.task import Split, Task, fingerprint, hashed_order, majority
from idim.tasks.texts import Texts

PIXELS, LABELS = "shuffled-pixels", "shuffled-labels"
ROWS = re.compile(r"rows=([1-9][0-9]{0,8})")
VERSION = 1


def parse(name: str, argument: str) -> Callable[[Task], Task]:
    """Return what the argument of an image task asks to be done with it, before any data are read.

    Args:
        name: of the task, for messages.
        argument: ``shuffled-pixels`` or ``shuffled-labels[,rows=N]``.

    Raises:
        RequestError: for another argument.
    """
    kind, comma, option = argument.partition(",")
    if kind not in (PIXELS, LABELS):
        raise unknown(f"variant of task {name!r}", kind, (PIXELS, LABELS))
    if kind == PIXELS and not comma:
        return shuffled_pixels
    rows = ROWS.fullmatch(option)
    if kind == PIXELS or (comma and not rows):
        raise RequestError(
            f"task {name!r} takes {PIXELS} or {LABELS}[,rows=N], N at least 1; received {name + ':' + argument!r}"
        )
    return functools.partial(shuffled_labels, rows=int(rows[1]) if rows else None)


@functools.lru_cache(maxsize=1)
def shuffled_pixels(task: Task) -> Task:
    """Return an image task with the pixels of every image in one other order."""
    order = hashed_order(_images(task.train)[0].numel(), "shuffled pixels")

    def moved(split: Split) -> Split:
        images = _images(split)
        return Split(inputs=images.flatten(1)[:, order].reshape(images.shape), targets=split.targets)

    train, selection, report = moved(task.train), moved(task.selection), moved(task.report)
    return dataclasses.replace(_renamed(task, PIXELS), train=train, selection=selection, report=report)


@functools.lru_cache(maxsize=1)
def shuffled_labels(task: Task, *, rows: int | None = None) -> Task:
    """Return an image task of N training rows whose labels have changed places; its splits are these rows.

    Raises:
        RequestError: for more rows than there are.
    """
    count = len(task.train) if rows is None else rows
    if count > len(task.train):
        raise RequestError(f"rows must be at most the {len(task.train):,} of the training split; received {count}")
    taken = hashed_order(len(task.train), "rows with shuffled labels")[:count]
    targets = task.train.targets[taken][hashed_order(count, "shuffled labels")]
    split = Split(inputs=_images(task.train)[taken], targets=targets)
    renamed = _renamed(task, LABELS if rows is None else f"{LABELS},rows={rows}")
    return dataclasses.replace(renamed, train=split, selection=split, report=split, chance=majority(targets))


def _renamed(task: Task, variant: str) -> Task:
    mark = fingerprint(f"{task.fingerprint}, {variant}, version {VERSION}", ())
    return dataclasses.replace(task, name=f"{task.name}:{variant}", fingerprint=mark)


def _images(split: Split) -> Tensor:
    assert not isinstance(split.inputs, Texts)  # only image tasks come here
    return split.inputs
