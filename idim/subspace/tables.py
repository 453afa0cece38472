r"""Embedding tables: of their many lines a batch reads few, and only those are made and have a gradient.

More than half of a small language model is its table of words, [V, w], of which a batch of some hundred tokens reads
some hundred lines. Two things are therefore done for a table that nobody reads but one :class:`torch.nn.Embedding`:

- *Forward.* :math:`\theta = \theta_0 + P z` is made in *grains*, the least stretches of rows that P makes without
  the others. A look-up makes the grains of its lines that are not up to date. Whoever reads the table as a tensor
  gets the whole of it.
- *Backward.* The gradient of k different lines is a tensor [k, w], never one of [V, w], and
  :math:`P^\top g` passes over the grains in which g is zero.

Both give the bits of the whole table: rows of P do not depend on which others are made, equal lines are summed in the
order of the batch, and adding the zeros of a grain to sums that begin at +0 changes none of their bits. The exception
is a table that is looked up several times in one graph: its gradients are added in z, no more in the table.

Only kinds with a ``grain`` take part (:meth:`idim.projections.Projection.grain`), and only tensors that are large.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd import Function

from idim.projections import Projection
from idim.subspace.graph import Pull

if TYPE_CHECKING:
    from idim.subspace.theta import Theta

Integers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Rows [start, stop) of theta, in dtype run ``run``, which begins at row ``origin``."""

    run: int
    origin: int
    start: int
    stop: int

    def of(self, flats: Sequence[Tensor]) -> Tensor:
        """Return these rows of flat tensors, one a dtype run."""
        return flats[self.run][self.start - self.origin : self.stop - self.origin]


class Table:
    """A tensor of theta, [V, w], whose grains are written into the buffer when they are first read.

    Args:
        projection: P, with a grain.
        stretch: the rows of the tensor.
        part: where theta goes, [V, w].
    """

    def __init__(self, projection: Projection, stretch: Stretch, part: Tensor) -> None:
        self.projection, self.stretch, self.part, self.out = projection, stretch, part, part.view(-1)
        self.grain = projection.grain(part)
        self.first = stretch.start // self.grain
        self.stale = np.ones((stretch.stop - 1) // self.grain + 1 - self.first, dtype=bool)

    def renew(self, z: Tensor, theta0: Sequence[Tensor]) -> None:
        """Take another z and theta0: from now on no line is up to date."""
        self.z, self.base = z.detach().clone(), self.stretch.of(theta0).detach()
        self.stale[:] = True

    def look_up(self, z: Tensor, numbers: Tensor, padding: int) -> Tensor | None:
        """Return lines ``numbers``, made from ``z``; None for numbers that PyTorch refuses or that cannot be seen."""
        seen = type(numbers) is Tensor and numbers.device == self.part.device
        if not seen or numbers.dtype not in (torch.int64, torch.int32):
            return None
        lines, where = np.unique(numbers.numpy().astype(np.int64, copy=False), return_inverse=True)
        if lines.size and not 0 <= lines[0] <= lines[-1] < len(self.part):
            return None
        self.fetch(lines)
        found: Tensor = LookUp.apply(z, self, numbers, lines, where, padding)  # type: ignore[no-untyped-call]
        return found

    def fetch(self, lines: Integers) -> None:
        """Bring lines up to date."""
        begin = self.stretch.start + lines * self.part.shape[1]
        end = begin + self.part.shape[1] - 1
        edges = np.zeros(len(self.stale) + 1, dtype=np.int64)
        np.add.at(edges, begin // self.grain - self.first, 1)
        np.add.at(edges, end // self.grain - self.first + 1, -1)
        self._write(self.stale & (edges.cumsum()[:-1] > 0))

    def complete(self) -> None:
        """Bring all lines up to date."""
        self._write(self.stale)

    def _write(self, which: NDArray[np.bool_]) -> None:
        grains = np.flatnonzero(which)
        if grains.size:
            self.projection.lift_grains(self.z, grains + self.first, self.stretch.start, self.out, self.base)
            self.stale[grains] = False


class LookUp(Function):
    """Lines of a table that is up to date; backward: the table's share of the gradient in z."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, table: Table, numbers: Tensor, lines: Integers, where: Integers, padding: int
    ) -> Tensor:
        """Return lines ``numbers`` = ``lines[where]``, with this node behind them; line ``padding`` has no gradient."""
        ctx.table, ctx.lines, ctx.where, ctx.padding = table, lines, where, padding
        ctx.save_for_backward(numbers, *([] if table.projection.linear else [z]))
        return nn.functional.embedding(numbers, table.part)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient in z from that of the lines."""
        table, (numbers, *saved) = ctx.table, ctx.saved_tensors
        z = saved[0].detach() if saved else grad.new_empty(0)  # a linear kind does not look at z
        if torch.is_grad_enabled():  # somebody may differentiate again
            dense = _summed(grad, numbers, len(table.part), ctx.padding)
            pulled = Pull.apply(dense.reshape(-1), z, table.projection, table.stretch.start)  # type: ignore[no-untyped-call]
        else:
            values = _summed(grad, torch.from_numpy(ctx.where), len(ctx.lines), -1)
            values[torch.from_numpy(ctx.lines == ctx.padding)] = 0
            pulled = table.projection.vjp_lines(z, ctx.lines, values, table.stretch.start, table.stretch.stop)
        return pulled, None, None, None, None, None


def _summed(grad: Tensor, numbers: Tensor, count: int, padding: int) -> Tensor:
    """Return [count, w]: gradients of lines ``numbers``, equal ones added in their order, as PyTorch does it."""
    summed: Tensor = torch.ops.aten.embedding_dense_backward(grad, numbers, count, padding, False)
    return summed


class Embedding(nn.Embedding):
    """A :class:`torch.nn.Embedding` in the working copy of a model: it asks theta for the lines it needs."""

    def forward(self, input: Tensor) -> Tensor:
        """Return lines ``input`` of the weight."""
        held: Any = self._parameters
        if self._is_plain() and not dict.__contains__(held, "weight"):
            theta: Theta = held.theta
            found = theta.look_up(held.index["weight"], input, -1 if self.padding_idx is None else self.padding_idx)
            if found is not None:
                return found
        return super().forward(input)

    def _is_plain(self) -> bool:
        options = self.max_norm, self.scale_grad_by_freq, self.sparse
        return type(self) is Embedding and options == (None, False, False) and not _recorded()


def _recorded() -> bool:
    """Say whether this pass becomes a program for other batches, which read other lines."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]


def ordinary(model: nn.Module) -> nn.Module:
    """Return ``model`` with :class:`torch.nn.Embedding` again in place of every :class:`Embedding`."""
    for module in model.modules():
        if type(module) is Embedding:
            module.__class__ = nn.Embedding  # type: ignore[assignment]
    return model
