r"""Linear problems whose intrinsic dimension is known: ``toy`` and ``regression[:RANK]``.

Minimise the mean square of :math:`X\theta - y` from :math:`\theta_0 = 0`. Where y lies in the range of
X, a random subspace of dimension d contains a solution exactly when d reaches the rank of X, so
:math:`d_{int} = \operatorname{rank} X`.

- ``toy`` (C. Li, H. Farkhoo, R. Liu and J. Yosinski, Measuring the Intrinsic Dimension of Objective
  Landscapes, 2018, arXiv:1804.08838, section 2): D = 1000 numbers in ten blocks of a hundred;
  block k must sum to k. X is the 10 x 1000 indicator of the blocks, of rank 10.
- ``regression:RANK``: X = A B with independent random signs in A [rows, rank] and B [rank, 1000],
  and y = X w, all exact in float64; more rows than the rank. Default rank 5.

The three splits are the same rows: there is nothing to generalise to, only a system to solve.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from idim.errors import RequestError
from idim.tasks.recipe import Recipe
from idim.tasks.task import Split, Task, fingerprint

D = 1000
BLOCKS = 10
RANK = 5


@functools.cache
def toy() -> Task:
    """Return the constraint toy: ten blocks of D = 1000, block k sums to k."""
    inputs = torch.eye(BLOCKS, dtype=torch.float64).repeat_interleave(D // BLOCKS, dim=1)
    targets = torch.arange(1, BLOCKS + 1, dtype=torch.float64).unsqueeze(1)
    return _task("toy", inputs, targets)


@functools.cache
def regression(rank: int = RANK) -> Task:
    """Return a consistent regression with D = 1000 and an X of known rank.

    Raises:
        RequestError: for a rank outside 1 to 1000.
    """
    if not 1 <= rank <= D:
        raise RequestError(f"the rank of regression must be between 1 and {D}; received {rank}")
    generator = torch.Generator().manual_seed(rank)
    inputs = _signs(2 * rank + 40, rank, generator) @ _signs(rank, D, generator)
    targets = inputs @ _signs(D, 1, generator) / 32  # of order one; a power of two keeps y exact
    return _task(f"regression:{rank}", inputs, targets)


def _signs(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    return (2 * torch.randint(0, 2, (rows, columns), generator=generator) - 1).double()


def _task(name: str, inputs: Tensor, targets: Tensor) -> Task:
    rows = Split(inputs=inputs, targets=targets)
    return Task(
        name=name,
        train=rows,
        selection=rows,
        report=rows,
        metric="r2",
        chance=0.0,
        input_shape=(D,),
        outputs=1,
        default_model="linear",
        default_bar="absolute:0.999999999",
        recipe=Recipe(optimizer="lbfgs", schedule="constant", batch_size=0, steps=500, precision="float64"),
        fingerprint=fingerprint("linear, version 1", (inputs.numpy(), targets.numpy())),
    )
