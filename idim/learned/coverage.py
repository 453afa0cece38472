r"""Coverage: the share of a delta that lies in the span of a basis, beside that of a random subspace.

For a delta x and columns :math:`Q_d`, the first d of a basis,

.. math::
    c_d(x) = \frac{\lVert \Pi_d x\rVert^2}{\lVert x\rVert^2}, \qquad \Pi_d = Q_d (Q_d^\top Q_d)^{-1} Q_d^\top,

which is exact for columns whose rounding has left them a little off orthonormal. With :math:`Q^\top Q = L L^\top`
(Cholesky), :math:`\lVert \Pi_d x\rVert^2` is the sum of the first d squares of :math:`L^{-1} Q^\top x`: one pass gives
every d. A uniformly random subspace of dimension d in D has :math:`c_d \sim \mathrm{Beta}(d/2, (D-d)/2)`, of mean d/D:
the zero line.

*Leave one out.* Of k deltas with Gram matrix G, the share of delta i in the leading directions of the others needs G
alone: with the eigenpairs :math:`(\lambda_j, v_j)` of the others' part and h their products with i, it is
:math:`\sum_j (v_j^\top h)^2 / (\lambda_j G_{ii})`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from idim.errors import RequestError
from idim.files import write_json
from idim.learned.building import directions
from idim.learned.overlap import Chance, chance
from idim.learned.vectors import Vectors
from idim.parameters import Layout
from idim.projections.basis_file import BasisFile
from idim.spectral.reading.sources import Source

LADDER = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500, 1000)


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Shares of squared norm inside the first d columns.

    Attributes:
        what: what the subspace is, in words.
        D: dimension of the whole.
        names: what was looked at.
        shares: for each name, the share for d = 1, 2, … columns.
        norms: for each name, the norm of the delta.
    """

    what: str
    D: int
    names: tuple[str, ...]
    shares: tuple[tuple[float, ...], ...]
    norms: tuple[float, ...]

    def random(self, d: int) -> Chance:
        """Return the share in a random subspace of dimension d."""
        return chance(d, self.D)

    def save(self, path: Path) -> None:
        """Write all shares as JSON, with the zero line."""
        columns = max(map(len, self.shares))
        zero = [self.random(d) for d in range(1, columns + 1)]
        write_json(path, {**asdict(self), "random": [{"mean": share.mean, "std": share.sd} for share in zero]})

    def rows(self) -> list[list[str]]:
        """Return the table: a row for each name, the shares in percent at a few d."""
        most = max(map(len, self.shares))
        dims = [d for d in LADDER if d < most] + [most]
        rows = [["share in %, d =", *map(str, dims)]]
        for name, shares in zip(self.names, self.shares, strict=True):
            rows.append([name, *(f"{100 * shares[d - 1]:.2f}" if d <= len(shares) else "" for d in dims)])
        return [*rows, ["random", *(f"{100 * self.random(d).mean:.2g}" for d in dims)]]

    def __str__(self) -> str:
        rows = self.rows()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
            for row in rows
        ]
        return "\n".join([f"{self.what}, D = {self.D:,}", *lines])


def coverage(basis: BasisFile, base: Source, tuned: Sequence[Source]) -> Coverage:
    """Return how much of each tuned model's delta is inside a basis, for every number of its columns.

    Args:
        basis: the columns.
        base: the model before; the tensors of the basis, by name.
        tuned: the models after.

    Raises:
        RequestError: when a model lacks a tensor of the basis, or one did not change.
    """
    layout = Layout(
        names=tuple(piece.name for piece in basis.pieces),
        shapes=tuple(piece.shape for piece in basis.pieces),
        dtypes=(torch.float32,) * len(basis.pieces),
    )
    vectors = Vectors(tuned, base=base, layout=layout)
    inner = torch.zeros(basis.columns, basis.columns, dtype=torch.float64)
    products = torch.zeros(basis.columns, len(tuned), dtype=torch.float64)
    squares = torch.zeros(len(tuned), dtype=torch.float64)
    for rows, x in vectors.chunks():
        piece = basis.pieces[rows.index]
        columns = piece.read(len(piece.columns), rows.start, rows.stop, x) * basis.scale
        numbers = torch.from_numpy(piece.columns)
        inner.index_put_((numbers[:, None], numbers[None, :]), columns @ columns.T, accumulate=True)
        products.index_add_(0, numbers, columns @ x.T)
        squares += x.square().sum(1)
    parts = torch.linalg.solve_triangular(torch.linalg.cholesky(inner), products, upper=False).square()
    names = tuple(model.place for model in tuned)
    shares = _shares(parts.T, squares, names)
    return Coverage(
        what=f"deltas in {basis.path}", D=layout.D, names=names, shares=shares, norms=tuple(squares.sqrt().tolist())
    )


def leave_one_out(vectors: Vectors, *, centred: bool) -> Coverage:
    """Return how much of each delta is in the leading directions of the others.

    Args:
        vectors: the deltas, at least two, not centred.
        centred: whether the others' mean is taken off them before their directions are found.

    Raises:
        RequestError: when a model did not change.
    """
    gram = torch.zeros(len(vectors), len(vectors), dtype=torch.float64)
    for _, x in vectors.chunks():
        gram.addmm_(x, x.T)
    names = tuple(model.place for model in vectors.models)
    parts = [_left_out(gram, i, centred) for i in range(len(gram))]
    shares = tuple(_shares(p.unsqueeze(0), gram[i, i].reshape(1), names[i : i + 1])[0] for i, p in enumerate(parts))
    return Coverage(
        what="each delta in the directions of the others",
        D=vectors.layout.D,
        names=names,
        shares=shares,
        norms=tuple(gram.diagonal().sqrt().tolist()),
    )


def _left_out(gram: Tensor, i: int, centred: bool) -> Tensor:
    """Return the squares of delta i along each leading direction of the others."""
    others = [j for j in range(len(gram)) if j != i]
    inner, products = gram[others][:, others], gram[others, i]
    if centred:
        centring = torch.eye(len(others), dtype=gram.dtype) - 1 / len(others)
        inner, products = centring @ inner @ centring, centring @ products
    values, vectors = directions(inner)
    return (vectors @ products / values).square()


def _shares(parts: Tensor, squares: Tensor, names: Sequence[str]) -> tuple[tuple[float, ...], ...]:
    for name, square in zip(names, squares.tolist(), strict=True):
        if not square:
            raise RequestError(f"a tuned model must differ from its base; received {name}, which does not")
    shares = (parts.cumsum(1) / squares.unsqueeze(1)).clamp(max=1)
    return tuple(tuple(row) for row in shares.tolist())
