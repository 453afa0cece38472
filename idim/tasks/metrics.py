r"""Metrics by name, each with the score of the best constant answer (chance).

==============  ====================================================  ==========================
``accuracy``    share of rows whose largest output is their class     share of the largest class
``f1``          of class 1 against class 0: 2 TP / (2 TP + FP + FN)   2p / (1 + p), p its share
``matthews``    correlation of two classes (B. W. Matthews, 1975)     0
``spearman``    correlation of ranks, ties at their mean rank         0
``r2``          1 - loss(outputs) / loss(0)                           0
``perplexity``  exp of the mean of -ln p over all next tokens         none
==============  ====================================================  ==========================

Where a correlation is 0/0, because all answers are equal, it is 0.

A *score* is what runs, bars and searches compare, and higher is always better. It is the metric itself, but for
perplexity, where lower is better: its score is minus its natural logarithm, the mean of ln p, which also has
noise of like size everywhere. :func:`shown` and :func:`scored` go from one to the other.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

Metric = Literal["accuracy", "r2", "f1", "matthews", "spearman", "perplexity"]
METRICS: tuple[Metric, ...] = get_args(Metric)
CLASSES: tuple[Metric, ...] = ("accuracy", "f1", "matthews")
"""Metrics of class numbers; the others are of values, or of the texts themselves."""
LABELLED: tuple[Metric, ...] = tuple(metric for metric in METRICS if metric != "perplexity")
MOST_LOGARITHM = 700.0  # of what is still a float64


def score(metric: Metric, outputs: Tensor, targets: Tensor) -> float:
    """Return the score over rows: outputs [n, k] against class numbers [n], or [n, 1] against values [n, 1].

    For perplexity, outputs are the sums of -ln p of each row's next tokens, [n, 1], and targets their numbers, [n].
    """
    if metric == "perplexity":
        return -float(outputs.double().sum() / targets.sum())
    if metric == "accuracy":
        return float((outputs.argmax(dim=1) == targets).double().mean())
    if metric == "r2":
        residual, total = (outputs - targets).double().square().sum(), targets.double().square().sum()
        return float(1 - residual / total)
    if metric == "spearman":
        return correlation(ranks(outputs.flatten()), ranks(targets.flatten()))
    answers, truth = outputs.argmax(dim=1) == 1, targets == 1
    if metric == "f1":
        found = int((answers & truth).sum())
        return 2 * found / max(1, int(answers.sum()) + int(truth.sum()))
    return correlation(answers.double(), truth.double())


def shown(metric: Metric, score: float) -> float:
    """Return the metric of a score."""
    return math.exp(min(-score, MOST_LOGARITHM)) if metric == "perplexity" else score


def scored(metric: Metric, value: float) -> float:
    """Return the score of a metric; the inverse of :func:`shown`."""
    return -math.log(value) if metric == "perplexity" else value


def said(metric: Metric, score: float, digits: int = 4) -> str:
    """Return the metric of a score as text, with so many decimals where its scale is that of a share."""
    return f"{shown(metric, score):.4g}" if metric == "perplexity" else f"{score:.{digits}f}"


def chance(metric: Metric, targets: Tensor) -> float:
    """Return the score of the best constant answer; nan where there is none."""
    if metric == "perplexity":
        return math.nan
    if metric == "accuracy":
        return majority(targets)
    if metric == "f1":
        share = float((targets == 1).double().mean())
        return 2 * share / (1 + share)
    return 0.0


def majority(targets: Tensor) -> float:
    """Return the share of the most frequent class: the accuracy of the best constant answer."""
    return float(targets.bincount().max()) / len(targets)


def correlation(one: Tensor, other: Tensor) -> float:
    """Return the linear correlation of two vectors; 0 where one of them is constant."""
    one, other = one - one.mean(), other - other.mean()
    norms = math.sqrt(float(one.square().sum())) * math.sqrt(float(other.square().sum()))
    return max(-1.0, min(1.0, float(one @ other) / norms)) if norms else 0.0


def ranks(values: Tensor) -> Tensor:
    """Return the rank of every value, from 0, as float64; equal values share the mean of their ranks."""
    _, place, count = torch.unique(values, return_inverse=True, return_counts=True)
    last = count.cumsum(0)
    shared: Tensor = last.double() - (count + 1) / 2
    return shared[place]
