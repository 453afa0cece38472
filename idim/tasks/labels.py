"""Labels as text become class numbers or values, and the splits of texts become a task."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from idim.errors import RequestError, unknown
from idim.tasks.metrics import CLASSES, LABELLED, Metric, chance
from idim.tasks.recipe import Recipe
from idim.tasks.task import Split, Task, fingerprint
from idim.tasks.texts import Parts

PREPARATION = "texts, version 1"
TEXT_RECIPE = Recipe(optimizer="adamw", batch_size=16, steps=300, length=64, bucketed=True, warmup=0.1)
MOST_CLASSES = 1000


def text_task(name: str, parts: Parts, *, metric: Metric | None = None) -> Task:
    """Return the task of three splits of texts.

    Labels that are all whole numbers or words are classes, in numerical or alphabetical order; where one
    is a fraction, all are values, which are standardised by the mean and deviation of the training rows.

    Args:
        name: the task's name.
        parts: the splits.
        metric: accuracy for classes and Spearman's correlation for values, unless given.

    Raises:
        RequestError: for one class, labels that training does not have, or a metric that does not go with the labels.
    """
    metric = metric or ("spearman" if _are_values(parts) else "accuracy")
    train, selection, report = (_classes if metric in CLASSES else _values)(name, parts)
    outputs = 1 + int(train.max()) if metric in CLASSES else 1
    if metric in ("f1", "matthews") and outputs != 2:
        raise RequestError(f"metric {metric!r} needs two classes; task {name!r} has {outputs}: use metric=accuracy")
    return Task(
        name=name,
        train=Split(inputs=parts.train.texts, targets=train),
        selection=Split(inputs=parts.selection.texts, targets=selection),
        report=Split(inputs=parts.report.texts, targets=report),
        metric=metric,
        chance=chance(metric, report),
        input_shape=(),
        outputs=outputs,
        default_model="minilm",
        default_bar="above-chance:0.9",
        recipe=TEXT_RECIPE,
        fingerprint=fingerprint(f"{PREPARATION}, {metric}", [table.bytes() for table in parts.tables()]),
    )


def checked_metric(name: str) -> Metric:
    """Return the metric of this name.

    Raises:
        RequestError: for an unknown one.
    """
    if name not in LABELLED:
        raise unknown("metric", name, LABELLED)
    return name


def _are_values(parts: Parts) -> bool:
    """Whether all labels are numbers and one is no whole number."""
    labels = {label for table in parts.tables() for label in table.labels}
    numbers = [_number(label) for label in labels]
    return not any(math.isnan(n) for n in numbers) and any(n != int(n) for n in numbers if math.isfinite(n))


def _number(label: str) -> float:
    try:
        return float(label)
    except ValueError:
        return math.nan


def _classes(name: str, parts: Parts) -> list[Tensor]:
    known = sorted(set(parts.train.labels), key=lambda label: (_number(label), label))
    if not 2 <= len(known) <= MOST_CLASSES:
        raise RequestError(
            f"task {name!r} must have between 2 and {MOST_CLASSES} classes in its train split; received {len(known)}"
        )
    number = {label: i for i, label in enumerate(known)}
    for table in (parts.selection, parts.report):
        if strange := sorted(set(table.labels) - number.keys()):
            raise RequestError(
                f"every label of task {name!r} must occur in its train split; received {strange[0]!r}, "
                f"known are {', '.join(known[:8])}{' …' if len(known) > 8 else ''}"
            )
    return [torch.tensor([number[label] for label in table.labels]) for table in parts.tables()]


def _values(name: str, parts: Parts) -> list[Tensor]:
    columns = [torch.tensor([_number(label) for label in t.labels], dtype=torch.float64) for t in parts.tables()]
    for column, table in zip(columns, parts.tables(), strict=True):
        if not bool(torch.isfinite(column).all()):
            first = table.labels[int((~torch.isfinite(column)).nonzero()[0])]
            raise RequestError(f"the labels of task {name!r} must be finite numbers for its metric; received {first!r}")
    mean, deviation = columns[0].mean(), columns[0].std(correction=0)
    if not deviation > 0:
        raise RequestError(f"the labels of task {name!r} must differ; received {float(mean):g} in every training row")
    return [((column - mean) / deviation).float().unsqueeze(1) for column in columns]
