r"""The working copy of :math:`\theta = \theta_0 + P z`, and the autograd nodes that lead from it to z.

**One buffer, written in one pass.** All of :math:`\theta` lies in one flat buffer (one a dtype,
where a model mixes them), written by ``projection.matvec(z, base=theta0, out=buffer)`` only when z
or theta0 has changed. The model sees views of it. Each rewriting raises the buffer's version, so a
backward pass through a graph of an older z raises the usual autograd error and is never silently
wrong. Another tensor in the place of z (``torch.func.functional_call``) gets a buffer of its own.

**Nodes made late.** The gradient :math:`\partial L/\partial z = \sum_G P_G^\top g_G` is a sum over
groups G of consecutive tensors. Each group is one autograd node, whose backward pass projects
:math:`g_G` onto z and lets it go. Autograd runs, among the nodes that are ready, the youngest first.
Nodes made before the forward pass would therefore run last, with all D gradients waiting. A node is
made when the model first reads a tensor of its group, so in the backward pass it is ready as soon as
its gradients exist, and runs at once.

**Reading is the hook.** :class:`Lifted` takes the place of ``_parameters`` in the modules of the
Subspace's own copy of the model. It holds no tensor: a look-up asks :class:`Theta`. This serves
every way in which a module reads its weights (attention that reads its projection's weight without
calling it, recurrent layers, tied weights), and look-ups from a recomputation in the backward pass
(activation checkpoints) as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.graph import increment_version

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


class _Lift(Function):
    """Views of a group's tensors in the buffer; backward: the group's share of the gradient in z."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, projection: Projection, group: Group, parts: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.projection, ctx.group = projection, group
        if not projection.linear:
            ctx.save_for_backward(z)
        return tuple(part.detach() for part in parts)  # without history, and with the buffer's version counter

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        if all(g is None for g in grads):
            return None, None, None, None
        flat = _joined(grads, ctx.group.sizes)
        z = flat if ctx.projection.linear else ctx.saved_tensors[0]  # a linear kind does not look at z
        if torch.is_grad_enabled():
            pulled = _Pull.apply(flat, z.detach(), ctx.projection, ctx.group.start)  # type: ignore[no-untyped-call]
        else:
            pulled = ctx.projection.vjp(z, flat, ctx.group.start)
        return pulled, None, None, None


def _joined(grads: Sequence[Tensor | None], sizes: Sequence[int]) -> Tensor:
    """Return a group's gradients end to end, zero where a tensor was not used."""
    like = next(g for g in grads if g is not None)
    pairs = zip(grads, sizes, strict=True)
    flat = [like.new_zeros(size) if g is None else g.reshape(-1) for g, size in pairs]
    return flat[0] if len(flat) == 1 else torch.cat(flat)


class _Pull(Function):
    """The gradient in z from the gradient of rows [start, ...): Pᵀ g, and P again when differentiated."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, z: Tensor, projection: Projection, start: int) -> Tensor:
        ctx.projection, ctx.start, ctx.like = projection, start, g.new_empty(0)
        ctx.size = g.numel()
        return projection.vjp(z, g, start)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
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
        pulled = _Pull.apply(g.contiguous(), g.new_empty(0), ctx.projection, ctx.start)  # type: ignore[no-untyped-call]
        return pulled, None, None, None, None


@contextmanager
def _record() -> Iterator[None]:
    """Make nodes where gradients are off: a first look under no_grad serves the whole forward pass."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


class Theta:
    """theta0 + P z in flat buffers, handed out tensor by tensor (see the module).

    Args:
        layout: the tensors and their rows.
        projection: P, of ``layout.D`` rows.
        z: the coordinates.
        theta0: the initial values, one flat tensor a dtype run of the layout.
    """

    def __init__(self, layout: Layout, projection: Projection, z: nn.Parameter, theta0: Sequence[Tensor]) -> None:
        self.layout, self.projection = layout, projection
        self.groups = groups_of(layout, rows=group_rows(max(layout.sizes), projection.d))
        self.group_of = tuple(group for group in self.groups for _ in group.sizes)
        self.calls = 0
        self.hidden: Tensor | None = None
        self.z, self.theta0 = z, tuple(theta0)
        self.forget()

    def forget(self) -> None:
        """Let go of the buffers and views; the next look-up makes new ones."""
        self.views: list[Tensor | None] = [None] * len(self.layout.names)
        self.buffers: tuple[Tensor, ...] = ()
        self.parts: list[Tensor] = []
        self.stamp: list[tuple[int, int]] = []
        self.seen: Tensor | None = None

    def bind(self, z: nn.Parameter, theta0: Sequence[Tensor]) -> None:
        """Take the coordinates and the initial values, one flat tensor a dtype run, to read from now on."""
        if any(new is not old for new, old in zip((z, *theta0), (self.z, *self.theta0), strict=True)):
            self.forget()
        self.z, self.theta0 = z, tuple(theta0)

    @contextmanager
    def call(self) -> Iterator[None]:
        """Hold a forward pass: theta is brought up to date and the nodes are new."""
        self.refresh()
        self.views = [None] * len(self.views)
        self.calls += 1
        try:
            yield
        finally:
            self.calls -= 1

    @contextmanager
    def hide(self) -> Iterator[Tensor]:
        """Hand out one empty tensor for every look-up, so that a copy of the modules copies no theta."""
        self.hidden = torch.empty(0)
        try:
            yield self.hidden
        finally:
            self.hidden = None

    def tensor(self, index: int) -> Tensor:
        """Return tensor ``index`` of theta, with the node of its group behind it."""
        if self.hidden is not None:
            return self.hidden
        if not self.calls:
            self.refresh()
        view = self.views[index]
        if view is None:
            self._open(self.group_of[index])
            view = self.views[index]
            assert view is not None
        return view

    def refresh(self) -> None:
        """Write theta into the buffers if z or theta0 has changed since; views of an older z are dropped.

        The values of z are compared, not its version, which ``z.data.add_`` would leave as it is.

        Raises:
            RequestError: when z is not finite.
        """
        stamp = [(t.data_ptr(), t._version) for t in self.theta0]
        if self.seen is not None and self.stamp == stamp and torch.equal(self.seen, self.z):
            return
        self.views = [None] * len(self.views)
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(self.z.device.type, enabled=False):
            self._write()
            self.stamp, self.seen = stamp, self.z.detach().clone()

    def _write(self) -> None:
        self.seen = None
        if [(b.dtype, b.device) for b in self.buffers] != [(t.dtype, t.device) for t in self.theta0]:
            self.buffers = tuple(torch.empty_like(t, requires_grad=False) for t in self.theta0)
            self.parts = list(self.layout.unflatten(self.buffers).values())
        for run, base, buffer in zip(self.layout.runs, self.theta0, self.buffers, strict=True):
            rows = self.projection.rows(self.layout.offsets[run.start], self.layout.offsets[run.stop])
            increment_version(buffer)
            rows.matvec(self.z, out=buffer, base=base)

    def _open(self, group: Group) -> None:
        recording = torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        with nullcontext() if recording else _record():
            views = _Lift.apply(self.z, self.projection, group, self.parts[group.tensors])  # type: ignore[no-untyped-call]
        self.views[group.tensors] = views

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy takes along: not the buffers and graph, which it makes for itself."""
        kept = ("layout", "projection", "groups", "group_of", "z", "theta0")
        return {name: self.__dict__[name] for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state of a copy."""
        self.__dict__.update(state)
        self.calls, self.hidden = 0, None
        self.forget()


class Lifted(dict[str, Any]):
    """``_parameters`` of a module some of whose tensors are rows of theta.

    Look-ups find every tensor of the module. Iteration finds them all during a forward pass (models
    ask ``next(self.parameters())`` for a dtype), and otherwise only those that the module itself
    holds, so that optimizers, ``state_dict`` and ``to`` meet each number once.

    Args:
        own: the parameters that the module itself holds.
        names: all parameter names, in the module's order.
        index: names of the tensors of theta, with their indices.
        theta: where those are read.
    """

    def __init__(self, own: Mapping[str, Any], names: tuple[str, ...], index: Mapping[str, int], theta: Theta) -> None:
        super().__init__(own)
        self.names, self.index, self.theta = names, dict(index), theta

    def __missing__(self, name: str) -> Tensor:
        return self.theta.tensor(self.index[name])

    def __contains__(self, name: object) -> bool:
        return name in self.index or super().__contains__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """Return a tensor of the module, or ``default``."""
        if name not in self:
            return default
        return self[name]

    def __iter__(self) -> Iterator[str]:
        own = super().__iter__()
        return iter(dict.fromkeys((*self.names, *own))) if self.theta.calls else own

    def keys(self) -> Any:
        """Return the names that iteration finds."""
        return list(self)

    def values(self) -> Any:
        """Return the tensors that iteration finds, each read when it is reached."""
        return (self[name] for name in self)

    def items(self) -> Any:
        """Return the pairs that iteration finds, each read when it is reached."""
        return ((name, self[name]) for name in self)

    def __reduce__(self) -> Any:
        own = {name: dict.__getitem__(self, name) for name in dict.__iter__(self)}
        return Lifted, (own, self.names, self.index, self.theta)
