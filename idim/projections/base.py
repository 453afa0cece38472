r"""The contract of a projection: a linear map :math:`P: \mathbb{R}^d \to \mathbb{R}^D` known by its seed.

Laws, held by one battery of tests over every kind (``tests/laws.py``):

- ``matvec`` is linear and :math:`\langle P z, g\rangle = \langle z, P^\top g\rangle` to round-off;
- both equal the product with ``to_dense()``;
- :math:`\mathbb{E}[P^\top P] = I` over the seed: columns have unit expected norm over the whole
  :math:`D`, so a step of size :math:`s` in :math:`z` moves :math:`\theta` by :math:`s`, whatever the kind;
- ``rows(a, b)`` for consecutive ranges concatenate to the whole;
- one seed gives one P: on every device, for every dtype and thread count;
- where ``nested`` is true, raising ``d`` keeps the first columns, up to a common factor per column.

A kind implements two methods on row ranges, ``_lift`` and ``_pull``; everything else is here.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from idim.errors import RequestError

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

Integers = NDArray[np.int64]

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """Return the dtype to compute in: float64 where a tensor is float64, else float32."""
    return torch.float64 if torch.float64 in [t.dtype for t in tensors] else torch.float32


@dataclass(frozen=True, kw_only=True)
class Projection(ABC):
    """A map from ``d`` subspace coordinates to ``D`` native parameters (see the module).

    Args:
        D: number of native parameters, at least 1.
        d: number of subspace coordinates, 1 ≤ d ≤ D.
        seed: names the map among those of its kind; any integer.

    Raises:
        RequestError: when d or D is out of range.
    """

    D: int
    d: int
    seed: int = 0

    kind: ClassVar[str]
    version: ClassVar[int] = 1  # raised when the same spec would give another P
    nested: ClassVar[bool] = False
    linear: ClassVar[bool] = True
    layered: ClassVar[bool] = False  # True: takes ``layers``, the number of rows of each layer
    learned: ClassVar[bool] = False  # True: made for one model, as ``fitted`` checks

    def __post_init__(self) -> None:
        if self.D < 1:
            raise RequestError(f"D must be at least 1; received D = {self.D}")
        if not 1 <= self.d <= self.D:
            raise RequestError(f"d must be between 1 and D = {self.D}; received d = {self.d}")

    # -- what a kind implements -------------------------------------------------------------

    @abstractmethod
    def _lift(self, z: Tensor, start: int, out: Tensor, base: Tensor | None) -> None:
        """Write rows [start, start + len(out)) of P z, plus ``base`` if given, into ``out``.

        ``z`` is finite, contiguous, of the compute dtype; ``out`` and ``base`` are 1-D contiguous
        floats on the device of ``z``, of any dtype, and may be the same tensor.
        """

    @abstractmethod
    def _pull(self, g: Tensor, start: int) -> Tensor:
        """Return Pᵀ g over rows [start, start + len(g)): shape [d], float64 for float64 ``g``, else float32.

        ``g`` is 1-D and contiguous, of any float dtype.
        """

    def _pull_parts(self, parts: Sequence[Tensor], start: int) -> Tensor:
        """Return :meth:`_pull` of 1-D contiguous ``parts`` end to end; a kind may do without joining them."""
        return self._pull(parts[0] if len(parts) == 1 else torch.cat(list(parts)), start)

    # -- what a kind may implement, for tables of which few lines are read (idim.subspace.tables) -----

    def grain(self, like: Tensor) -> int:
        """Return g if rows [k g, (k + 1) g) can be made alone, in the dtype and on the device of ``like``, else 0."""
        return 0

    def lift_grains(self, z: Tensor, grains: Integers, start: int, out: Tensor, base: Tensor) -> None:
        """Write base + P z as :meth:`matvec` does, but only the rows of ``grains``, ascending, that lie in ``out``.

        ``out`` is a part of one layer, its first row is ``start``; all are 1-D, contiguous and of one dtype.
        """
        raise NotImplementedError(f"projection {self.kind!r} has no grain")

    def vjp_lines(self, z: Tensor, lines: Integers, values: Tensor, start: int, stop: int) -> Tensor:
        """Return :meth:`vjp` over rows [start, stop), whose gradient is ``values[k]`` in line ``lines[k]`` and else 0.

        The rows are a table with ``values.shape[1]`` adjacent rows a line; the lines ascend.
        """
        raise NotImplementedError(f"projection {self.kind!r} has no grain")

    @classmethod
    def parse(cls, option: str) -> dict[str, object]:
        """Return the fields that ``option`` names in a user's "kind:option".

        Raises:
            RequestError: when the kind takes no option, or not this one.
        """
        raise RequestError(f"projection {cls.kind!r} takes no option; received {option!r}")

    @classmethod
    def least_d(cls, layers: tuple[int, ...]) -> int:
        """Return the smallest d that this kind can have over layers of so many rows."""
        return 1

    @classmethod
    def most_d(cls, option: str, *, D: int, layers: tuple[int, ...]) -> int:
        """Return the largest d that this kind, with the option of a user's "kind:option", can have over D rows."""
        return D

    @classmethod
    def pin(cls, option: str) -> str:
        """Return the option with the hash of what it names, where it names a file."""
        return option

    def fitted(self, tensors: Mapping[str, Tensor]) -> Projection:
        """Return this map for the rows of these tensors, end to end; it is the same for all unless it is learned.

        Raises:
            RequestError: for a learned kind that was not learned over such tensors.
        """
        return self

    # -- the map ------------------------------------------------------------------------------

    def matvec(self, z: Tensor, *, out: Tensor | None = None, base: Tensor | None = None) -> Tensor:
        """Return P z, shape [D]; with ``base`` [D], return base + P z in one pass; ``out`` receives it.

        Raises:
            RequestError: on wrong sizes or a non-finite ``z``.
        """
        return self._matvec(z, 0, self.D, out, base)

    def rmatvec(self, g: Tensor) -> Tensor:
        """Return Pᵀ g, shape [d], for ``g`` of shape [D].

        Raises:
            RequestError: on a wrong size.
        """
        return self._rmatvec(g, 0, self.D)

    def rows(self, start: int, stop: int) -> Rows:
        """Return the same map restricted to rows [start, stop): per tensor, per shard."""
        return Rows(self, start, stop)

    def vjp(self, z: Tensor, g: Tensor, start: int = 0) -> Tensor:
        """Return the gradient in ``z`` of ⟨rows [start, start + len(g)) of the map at z, g⟩.

        For a linear map it does not depend on ``z``: it is Pᵀ g over these rows.
        """
        return self._rmatvec(g, start, start + g.numel())

    def vjp_parts(self, z: Tensor, parts: Sequence[Tensor], start: int = 0) -> Tensor:
        """Return :meth:`vjp` for the gradients of consecutive tensors, 1-D each, without joining them if it can."""
        if not self.linear:
            return self.vjp(z, torch.cat(list(parts)), start)
        _check_range(start, start + sum(part.numel() for part in parts), self.D)
        return self._pull_parts([part.detach().contiguous() for part in parts], start)

    def initial(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the coordinates that give a zero change: shape [d]."""
        return torch.zeros(self.d, dtype=dtype)

    def to_dense(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """Return P as a [D, d] matrix, column by column: for tests and small D only.

        Raises:
            RequestError: for a kind that is not linear.
        """
        self._require_linear()
        return torch.stack([self.matvec(e) for e in torch.eye(self.d, dtype=dtype)], dim=1)

    def to_scipy(self) -> LinearOperator:
        """Return P as a float64 ``scipy.sparse.linalg.LinearOperator`` of shape (D, d).

        Raises:
            RequestError: for a kind that is not linear.
        """
        from scipy.sparse.linalg import LinearOperator

        self._require_linear()
        return LinearOperator(
            shape=(self.D, self.d),
            dtype=np.dtype(np.float64),
            matvec=lambda z: self.matvec(torch.as_tensor(z, dtype=torch.float64).ravel()).numpy(),
            rmatvec=lambda g: self.rmatvec(torch.as_tensor(g, dtype=torch.float64).ravel()).numpy(),
        )

    @property
    def spec(self) -> dict[str, object]:
        """All that is ever stored of a random kind: kind, version, D, d, seed and its options."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {"kind": self.kind, "version": self.version, **{k: _listed(v) for k, v in fields.items()}}

    # -- shared checks --------------------------------------------------------------------------

    def _matvec(self, z: Tensor, start: int, stop: int, out: Tensor | None, base: Tensor | None) -> Tensor:
        _check_range(start, stop, self.D)
        check_vector("z", z, self.d)
        z = z.detach()
        if not _all_finite(z):
            raise RequestError(f"z must be finite; received {int((~torch.isfinite(z)).sum())} non-finite of {self.d}")
        if base is not None:
            check_vector("base", base, stop - start)
        if out is None:
            out = torch.empty(stop - start, dtype=z.dtype if base is None else base.dtype, device=z.device)
        check_vector("out", out, stop - start)
        if not out.is_contiguous():
            raise RequestError("out must be contiguous; received a strided tensor")
        z = z.to(compute_dtype(z, out)).contiguous()
        self._lift(z, start, out.detach(), None if base is None else base.detach().contiguous())
        return out

    def _rmatvec(self, g: Tensor, start: int, stop: int) -> Tensor:
        self._require_linear()
        _check_range(start, stop, self.D)
        check_vector("g", g, stop - start)
        return self._pull(g.detach().contiguous(), start)

    def _require_linear(self) -> None:
        if not self.linear:
            raise RequestError(f"projection {self.kind!r} is not linear in its coordinates, use vjp")


class Nonlinear(Projection):
    """A kind whose map is not linear in its coordinates: it has a gradient of its own, and no transpose."""

    linear: ClassVar[bool] = False

    def _pull(self, g: Tensor, start: int) -> Tensor:
        raise NotImplementedError(f"projection {self.kind!r} has no transpose; the base class refuses it")


@dataclass(frozen=True)
class Rows:
    """Rows [start, stop) of a projection: ``matvec`` gives [stop - start], ``rmatvec`` takes it."""

    projection: Projection
    start: int
    stop: int

    def __post_init__(self) -> None:
        _check_range(self.start, self.stop, self.projection.D)

    def matvec(self, z: Tensor, *, out: Tensor | None = None, base: Tensor | None = None) -> Tensor:
        """Return these rows of P z, plus ``base`` if given."""
        return self.projection._matvec(z, self.start, self.stop, out, base)

    def rmatvec(self, g: Tensor) -> Tensor:
        """Return the part of Pᵀ g that these rows give: shape [d]."""
        return self.projection._rmatvec(g, self.start, self.stop)


def _listed(value: object) -> object:
    """Return ``value`` with tuples, at any depth, as the lists that JSON reads back."""
    return [_listed(v) for v in value] if isinstance(value, tuple) else value


def _check_range(start: int, stop: int, D: int) -> None:
    if not 0 <= start < stop <= D:
        raise RequestError(f"rows must satisfy 0 <= start < stop <= D = {D}; received [{start}, {stop})")


def _all_finite(z: Tensor) -> bool:
    """Say whether every entry is finite: a finite sum tells, any other may have overflowed."""
    return math.isfinite(z.sum().item()) or bool(torch.isfinite(z).all())


def check_vector(name: str, x: Tensor, size: int) -> None:
    """Raise :class:`RequestError` unless ``x`` is a float tensor of shape [size]."""
    if x.ndim != 1 or x.numel() != size:
        raise RequestError(f"{name} must have shape [{size}]; received {list(x.shape)}")
    if x.dtype not in FLOATS:
        raise RequestError(f"{name} must be a float tensor; received {x.dtype}")
