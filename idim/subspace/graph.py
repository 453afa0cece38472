r"""The autograd nodes between theta and z: one for each group of consecutive tensors.

.. math::
    \frac{\partial L}{\partial z} = \sum_G P_G^\top g_G

Each term is one node, whose backward pass projects the gradients of its group onto z and lets them
go. For a kind that is linear in z the node can be differentiated again: the gradient of
:math:`P_G^\top g` in :math:`g` is :math:`P_G` once more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from idim.parameters import Layout
from idim.projections import Projection

# A group's gradients are held together for a moment. A group is about as large as the largest tensor
# (whose gradient there must be), with room for the biases beside it; in a model of large tensors it
# stays small beside theta, but not so small that the projection's work on a row range is spent on the
# range's ragged ends (of the order of 16 d rows for interleaved Hadamard blocks); and a megabyte is
# not worth a second node.
LEAST_ROWS = 1 << 18
MOST_ROWS = 1 << 20
MOST_ROWS_PER_D = 64


@dataclass(frozen=True, kw_only=True)
class Group:
    """Consecutive tensors of one dtype, one autograd node: rows [start, start + sum(sizes))."""

    start: int
    tensors: slice
    sizes: tuple[int, ...]


def group_rows(largest: int, d: int) -> int:
    """Return how many rows a group may have, where the largest tensor has ``largest`` (see the constants)."""
    return max(LEAST_ROWS, min(largest + largest // 8, max(MOST_ROWS, MOST_ROWS_PER_D * d)))


def groups_of(layout: Layout, *, rows: int) -> tuple[Group, ...]:
    """Pack consecutive tensors of one dtype into groups of at most ``rows`` rows, or one larger tensor."""
    ranges = (members for run in layout.runs for members in _packed(run, layout.sizes, rows))
    return tuple(Group(start=layout.offsets[m.start], tensors=m, sizes=layout.sizes[m]) for m in ranges)


def _packed(run: range, sizes: Sequence[int], rows: int) -> Iterator[slice]:
    first, held = run.start, 0
    for i in run:
        if held and held + sizes[i] > rows:
            yield slice(first, i)
            first, held = i, 0
        held += sizes[i]
    yield slice(first, run.stop)


class Lift(Function):
    """Views of a group's tensors in the buffer; backward: the group's share of the gradient in z."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, projection: Projection, group: Group, parts: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        """Return the tensors ``parts`` of the group, with this node behind them."""
        ctx.set_materialize_grads(False)
        ctx.projection, ctx.group = projection, group
        if not projection.linear:
            ctx.save_for_backward(z)
        return tuple(part.detach() for part in parts)  # without history, and with the buffer's version counter

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Return the gradient in z from the gradients of the tensors."""
        if all(g is None for g in grads):
            return None, None, None, None
        parts = _flat(grads, ctx.group.sizes)
        z = parts[0] if ctx.projection.linear else ctx.saved_tensors[0]  # a linear kind does not look at z
        if torch.is_grad_enabled():
            flat = torch.cat(parts)
            pulled = Pull.apply(flat, z.detach(), ctx.projection, ctx.group.start)  # type: ignore[no-untyped-call]
        else:
            pulled = ctx.projection.vjp_parts(z, parts, ctx.group.start)
        return pulled, None, None, None


def _flat(grads: Sequence[Tensor | None], sizes: Sequence[int]) -> list[Tensor]:
    """Return a group's gradients, each as a vector, zero where a tensor was not used."""
    like = next(g for g in grads if g is not None)
    return [like.new_zeros(size) if g is None else g.reshape(-1) for g, size in zip(grads, sizes, strict=True)]


class Pull(Function):
    """The gradient in z from the gradient of rows [start, ...): Pᵀ g, and P again when differentiated."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, z: Tensor, projection: Projection, start: int) -> Tensor:
        """Return the gradient in z."""
        ctx.projection, ctx.start, ctx.like = projection, start, g.new_empty(0)
        ctx.size = g.numel()
        return projection.vjp(z, g, start)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient in g from that of the gradient in z."""
        if not ctx.projection.linear:
            raise RuntimeError(f"double backward needs a linear projection; received {ctx.projection.kind!r}")
        pushed = _Push.apply(v, ctx.projection, ctx.start, ctx.size, ctx.like)  # type: ignore[no-untyped-call]
        return pushed, None, None, None


class _Push(Function):
    """Rows [start, start + size) of P v, in the dtype of the rows' gradient."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, projection: Projection, start: int, size: int, like: Tensor) -> Tensor:
        ctx.projection, ctx.start = projection, start
        return projection.rows(start, start + size).matvec(v).to(like.dtype)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        pulled = Pull.apply(g.contiguous(), g.new_empty(0), ctx.projection, ctx.start)  # type: ignore[no-untyped-call]
        return pulled, None, None, None, None
