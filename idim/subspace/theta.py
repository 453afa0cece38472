r"""The working copy of :math:`\theta = \theta_0 + P z`, handed out tensor by tensor.

**One buffer, written in one pass.** All of :math:`\theta` lies in one flat buffer (one a dtype,
where a model mixes them), written by ``projection.matvec(z, base=theta0, out=buffer)`` only when z
or theta0 has changed. The model sees views of it. Each rewriting raises the buffer's version, so a
backward pass through a graph of an older z raises the usual autograd error and is never silently
wrong. Another tensor in the place of z (``torch.func.functional_call``) gets a buffer of its own.

**Nodes made late.** Autograd runs, among the nodes that are ready, the youngest first. Nodes
(:mod:`idim.subspace.graph`) made before the forward pass would therefore run last, with all D
gradients waiting for them. A node is made when the model first reads a tensor of its group, so in
the backward pass it runs as soon as its gradients exist, and these are freed at once.

**Tables by lines.** Large embedding tables are left out of the pass and made where they are read
(:mod:`idim.subspace.tables`).
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from idim.parameters import Layout
from idim.projections import Projection
from idim.subspace.graph import LEAST_ROWS, Group, Lift, group_rows, groups_of
from idim.subspace.tables import Stretch, Table


@contextmanager
def _record() -> Iterator[None]:
    """Make nodes where gradients are off: a first look under no_grad serves the whole forward pass."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


@contextmanager
def _plainly(device_type: str) -> Iterator[None]:
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(device_type, enabled=False):
        yield


def _ordinary(device_type: str) -> AbstractContextManager[None]:
    """Make tensors for any later use, in their own dtype: no more than ``no_grad`` where that is enough."""
    special = torch.is_inference_mode_enabled() or torch.is_autocast_enabled(device_type)
    return _plainly(device_type) if special else torch.no_grad()


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
        self.deferred: set[int] = set()
        self.calls = 0
        self.hidden: Tensor | None = None
        self.z, self.theta0 = z, tuple(theta0)
        self.forget()

    def defer(self, index: int) -> bool:
        """Make tensor ``index`` a table by lines from now on, if it is large; say whether it is one."""
        alone = len(self.group_of[index].sizes) == 1 and self.layout.sizes[index] >= LEAST_ROWS
        if alone and len(self.deferred) + 1 < len(self.layout.sizes):  # what is left checks that z is finite
            self.deferred.add(index)
            self.forget()
        return index in self.deferred

    def forget(self) -> None:
        """Let go of the buffers and views; the next look-up makes new ones."""
        self.views: dict[int, Tensor] = {}
        self.buffers: tuple[Tensor, ...] = ()
        self.parts: list[Tensor] = []
        self.tables: dict[int, Table] = {}
        self.stretches: list[Stretch] = []
        self.stamp: list[tuple[int, int]] = []
        self.seen: Tensor | None = None

    def bind(self, z: nn.Parameter, theta0: Sequence[Tensor]) -> None:
        """Take the coordinates and the initial values, one flat tensor a dtype run, to read from now on."""
        if z is not self.z or not all(map(operator.is_, theta0, self.theta0)):
            self.forget()
            self.z, self.theta0 = z, tuple(theta0)

    def __enter__(self) -> None:
        """Begin a forward pass: theta is brought up to date and the nodes are new."""
        self.refresh()
        self.views = {}
        self.calls += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the forward pass."""
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
        if index not in self.views:
            if index in self.tables:
                self.tables[index].complete()
            self._open(self.group_of[index])
        return self.views[index]

    def look_up(self, index: int, numbers: Tensor, padding: int) -> Tensor | None:
        """Return lines ``numbers`` of tensor ``index``, or None where they are to be read from the whole tensor."""
        if not self.calls:
            self.refresh()
        table = self.tables.get(index)
        return None if table is None else table.look_up(self.z, numbers, padding)

    def whole(self) -> tuple[Tensor, ...]:
        """Return the buffers, all of them up to date."""
        self.refresh()
        for table in self.tables.values():
            table.complete()
        return self.buffers

    def refresh(self) -> None:
        """Write theta into the buffers if z or theta0 has changed since; views of an older z are dropped.

        The values of z are compared, not its version, which ``z.data.add_`` would leave as it is. A
        model that writes into its weights (an embedding with ``max_norm``) writes into this pass only.

        Raises:
            RequestError: when z is not finite.
        """
        if self.seen is not None and self.stamp == self._stamp() and torch.equal(self.seen, self.z):
            return
        self.views = {}
        with _ordinary(self.z.device.type):
            self._write()
            self.stamp, self.seen = self._stamp(), self.z.clone()

    def _stamp(self) -> list[tuple[int, int]]:
        return [(t.data_ptr(), t._version) for t in (*self.theta0, *self.buffers)]

    def _write(self) -> None:
        self.seen = None
        if [(b.dtype, b.device) for b in self.buffers] != [(t.dtype, t.device) for t in self.theta0]:
            self.buffers = tuple(torch.empty_like(t, requires_grad=False) for t in self.theta0)
            self.parts = list(self.layout.unflatten(self.buffers).values())
            self._plan()
        for buffer in self.buffers:
            increment_version(buffer)
        for stretch in self.stretches:
            rows = self.projection.rows(stretch.start, stretch.stop)
            rows.matvec(self.z, out=stretch.of(self.buffers), base=stretch.of(self.theta0))
        for table in self.tables.values():
            table.renew(self.z, self.theta0)

    def _plan(self) -> None:
        """Divide the rows into tables and the stretches between them."""
        self.stretches, self.tables = [], {}
        for k, run in enumerate(self.layout.runs):
            saves = self.buffers[k].dtype == self.z.dtype and self.projection.grain(self.buffers[k]) > 0
            tables = [i for i in run if saves and i in self.deferred]
            edges = [run.start, *(edge for i in tables for edge in (i, i + 1)), run.stop]
            pairs = zip(edges[::2], edges[1::2], strict=True)
            self.stretches += [self._stretch(k, first, last) for first, last in pairs if first < last]
            self.tables |= {i: Table(self.projection, self._stretch(k, i, i + 1), self.parts[i]) for i in tables}

    def _stretch(self, run: int, first: int, last: int) -> Stretch:
        offsets = self.layout.offsets
        return Stretch(run=run, origin=offsets[self.layout.runs[run].start], start=offsets[first], stop=offsets[last])

    def _open(self, group: Group) -> None:
        recording = torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        with nullcontext() if recording else _record():
            views = Lift.apply(self.z, self.projection, group, self.parts[group.tensors])  # type: ignore[no-untyped-call]
        self.views.update(enumerate(views, group.tensors.start))

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy takes along: not the buffers and graph, which it makes for itself."""
        kept = ("layout", "projection", "groups", "group_of", "deferred", "z", "theta0")
        return {name: self.__dict__[name] for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state of a copy."""
        self.__dict__.update(state)
        self.calls, self.hidden = 0, None
        self.forget()
