"""The rows of a task as tensors that a run's network takes: texts become tokens, numbers get the run's precision."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from idim import models
from idim.errors import RequestError
from idim.models.language import lengths
from idim.runs.spec import RunSpec
from idim.tasks import Recipe, Split, Task, Texts

SAMPLE = 16  # texts that show whether a tokenizer fits
KEPT = 6  # tokenised splits in memory: three of two tasks or models


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Rows to train on or to score.

    Attributes:
        inputs: [n, ...], what the network takes.
        targets: class numbers [n] or values [n, 1]; where next tokens are foretold, the number of them [n].
        lengths: number of tokens of each row, [n], where rows are texts.
        weights: what each row counts in the mean loss of a batch, [n]; None: all the same.
    """

    inputs: Tensor
    targets: Tensor
    lengths: Tensor | None = None
    weights: Tensor | None = None

    def __len__(self) -> int:
        return len(self.targets)


def rows_of(spec: RunSpec, split: Split) -> Rows:
    """Return the rows of a split for the network and the precision of a spec.

    Raises:
        RequestError: when the texts cannot be tokenised for the network.
    """
    targets = _in_precision(split.targets, spec.recipe)
    if isinstance(split.inputs, Texts):
        tokens = _tokens(spec.model, split.inputs, spec.recipe.length)
        if split.foretold:
            return _foretold(tokens)
        return Rows(inputs=tokens, targets=targets, lengths=lengths(tokens))
    return Rows(inputs=_in_precision(split.inputs, spec.recipe), targets=targets)


def training_rows(spec: RunSpec, task: Task) -> Rows:
    """Return the rows that a run trains on."""
    train, selection = task.train.inputs, task.selection.inputs
    if spec.recipe.train_on == "train" or task.selection is task.train:
        return rows_of(spec, task.train)
    targets = torch.cat([task.train.targets, task.selection.targets])
    if isinstance(train, Texts) and isinstance(selection, Texts):
        return rows_of(spec, Split(inputs=_joined(train, selection), targets=targets))
    return rows_of(spec, Split(inputs=torch.cat([train, selection]), targets=targets))  # type: ignore[list-item]


def check_texts(model: str, task: Task, length: int) -> None:
    """Tokenise a few texts of a task, if it has texts, before anything trains.

    Raises:
        RequestError: when the tokenizer cannot be had or does not fit.
    """
    if isinstance(task.train.inputs, Texts):
        texts = task.train.inputs.take(range(min(SAMPLE, len(task.train))))
        models.encode(model, texts.first, texts.second, length)


def _foretold(tokens: Tensor) -> Rows:
    counts = (lengths(tokens) - 1).clamp(min=0)
    if not counts.sum():
        raise RequestError(f"texts must have two tokens for one to be foretold; received {len(tokens)} of fewer")
    return Rows(inputs=tokens, targets=counts, lengths=lengths(tokens), weights=counts)


@functools.lru_cache(maxsize=2)
def _joined(train: Texts, selection: Texts) -> Texts:
    """Return the rows of both; the same object again, so that it is tokenised once."""
    return train.joined(selection)


@functools.lru_cache(maxsize=KEPT)
def _tokens(model: str, texts: Texts, length: int) -> Tensor:
    return models.encode(model, texts.first, texts.second, length)


def _in_precision(values: Tensor, recipe: Recipe) -> Tensor:
    """Return numbers in the precision of the recipe; class numbers as they are."""
    return values.to(getattr(torch, recipe.precision)) if values.is_floating_point() else values
