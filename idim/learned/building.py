r"""The leading directions of many vectors, without holding them: two passes over the files.

For the k × D matrix X of vectors, the first pass sums the Gram matrix :math:`G = X X^\top = V \Lambda V^\top` in
float64, chunk by chunk. The right singular vectors are :math:`Q = \Lambda^{-1/2} V^\top X`, which the second pass
writes, chunk by chunk, beside the inner products of what it has written (each chunk's in float32, their sum in
float64: good to some 1e-8). By layer, each layer has a G of its own and columns that are zero elsewhere.

*Accuracy.* G is exact to about :math:`k ε λ_1` with :math:`ε = 2^{-53}`, so directions with :math:`λ_j` below
:math:`10 k ε λ_1` (:math:`σ_j` below some :math:`10^{-7} σ_1`) cannot be told from round-off and do not count in the
rank. Above that, column j is off orthogonality by up to :math:`ε λ_1/λ_j`: where the inner products show more than
CLEAN, a third pass writes :math:`(QQ^\top)^{-1/2} Q` instead, which leaves the rounding of the stored numbers.

Source of the method: L. Sirovich, "Turbulence and the dynamics of coherent structures", 1987 (method of snapshots).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from idim.errors import RequestError
from idim.learned.basis_writer import BasisWriter, Precision, basis_writer
from idim.learned.vectors import Place, Vectors
from idim.parameters import Layout, layer_of

EPS = 2.0**-53
CLEAN = 1e-7  # beside the rounding of the stored numbers


@dataclass(frozen=True, kw_only=True)
class Built:
    """What was built: columns, their singular values, and how much of the vectors they hold.

    Attributes:
        path: the basis.
        D: number of rows.
        columns: number of columns.
        vectors: number of vectors learned from.
        rank: number of directions they have, as far as round-off lets one say; over all layers, by layer.
        values: singular value of every column, descending.
        share: fraction of the vectors' squared norm inside the span.
        off: largest difference of an inner product of two stored columns from that of orthonormal ones.
    """

    path: Path
    D: int
    columns: int
    vectors: int
    rank: int
    values: tuple[float, ...]
    share: float
    off: float

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.columns} columns over D = {self.D:,}, from {self.vectors} vectors of rank "
            f"{self.rank}, with {100 * self.share:.2f} % of their squared norm inside; orthonormal to {self.off:.1e}"
        )


@dataclass(frozen=True, kw_only=True)
class _Block:
    """Tensors that share columns: how many tensors, the numbers of the columns, and each as a mixture of vectors."""

    tensors: int
    columns: list[int]
    mixture: Tensor  # [columns, k]


def build(
    vectors: Vectors,
    path: Path,
    *,
    columns: int | None = None,
    by_layer: bool = False,
    precision: Precision = "float32",
    fits_any: bool = False,
    learned: Mapping[str, Any],
) -> Built:
    """Write the leading directions of vectors as a basis.

    Args:
        vectors: to learn from.
        path: the file to write.
        columns: how many; by layer, at most so many for each; all that there are by default.
        by_layer: give every layer directions of its own.
        precision: of the stored numbers.
        fits_any: for parameters of these names and shapes at any values, not only at the base's.
        learned: what to say of it in the file.

    Raises:
        RequestError: when the vectors have fewer directions than columns asked for, or none.
    """
    if columns is not None and columns < 1:
        raise RequestError(f"columns must be at least 1; received {columns}")
    counts = layer_counts(vectors.layout) if by_layer else (len(vectors.layout.names),)
    grams = _grams(vectors, counts)
    blocks, values, rank = _leading(grams, counts, columns, len(vectors))
    share = sum(v * v for v in values) / max(float(torch.stack([g.trace() for g in grams]).sum()), 1e-300)
    base = "" if fits_any else vectors.base_digest()
    about = {**learned, "vectors": len(vectors), "rank": rank, "values": values, "sources": vectors.sources()}
    shared = [(block.tensors, block.columns) for block in blocks]
    with basis_writer(path, vectors.layout, shared, precision=precision, base=base, learned=about) as writer:
        inner = _write(writer, vectors, blocks)
        if max(map(_off, inner)) > CLEAN + torch.finfo(writer.dtype).eps:
            blocks = [_cleaned(block, gram) for block, gram in zip(blocks, inner, strict=True)]
            inner = _write(writer, vectors, blocks)
        off = writer.learned["off"] = max(map(_off, inner))
    return Built(
        path=path,
        D=vectors.layout.D,
        columns=len(values),
        vectors=len(vectors),
        rank=rank,
        values=tuple(values),
        share=share,
        off=off,
    )


def layer_counts(layout: Layout) -> tuple[int, ...]:
    """Return the number of tensors of each layer, in their order."""
    return tuple(len(list(names)) for _, names in itertools.groupby(layout.names, key=layer_of))


def _grams(vectors: Vectors, counts: Sequence[int]) -> list[Tensor]:
    """Return the inner products of the vectors over each block of tensors."""
    block_of = [block for block, count in enumerate(counts) for _ in range(count)]
    grams = [torch.zeros(len(vectors), len(vectors), dtype=torch.float64) for _ in counts]
    for rows, x in vectors.chunks(first=True):
        grams[block_of[rows.index]].addmm_(x, x.T)
    return grams


def _leading(
    grams: Sequence[Tensor], counts: Sequence[int], columns: int | None, vectors: int
) -> tuple[list[_Block], list[float], int]:
    """Return the blocks of the leading directions, the singular values of all columns, and the rank."""
    found = [directions(gram) for gram in grams]
    most = max(len(values) for values, _ in found)
    if not most:
        raise RequestError(f"the models must differ to be learned from; received {vectors} of rank 0: all are the same")
    if columns is not None and columns > most:
        raise RequestError(
            f"columns must be at most the rank of what they are learned from, {most} of {vectors} vectors; "
            f"received {columns}"
        )
    kept = [(values[:columns], mixture[:columns]) for values, mixture in found]
    order = sorted(
        ((float(value), block, j) for block, (values, _) in enumerate(kept) for j, value in enumerate(values)),
        key=lambda item: (-item[0], item[1:]),
    )
    numbers: list[list[int]] = [[] for _ in counts]
    for number, (_, block, _) in enumerate(order):
        numbers[block].append(number)
    blocks = [
        _Block(tensors=count, columns=numbers[i], mixture=kept[i][1] / kept[i][0].unsqueeze(1))
        for i, count in enumerate(counts)
    ]
    return blocks, [value for value, _, _ in order], sum(len(values) for values, _ in found)


def directions(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Return the singular values above round-off, descending, and the left vectors [r, k], largest entry positive."""
    values, vectors = torch.linalg.eigh(gram)
    values, vectors = values.flip(0), vectors.flip(1).T
    rank = int((values > 10 * len(gram) * EPS * values[0].clamp(min=0)).sum()) if float(values[0]) > 0 else 0
    vectors = vectors[:rank]
    signs = vectors.gather(1, vectors.abs().argmax(1, keepdim=True)).sign()
    return values[:rank].sqrt(), vectors * signs


def _write(writer: BasisWriter, vectors: Vectors, blocks: Sequence[_Block]) -> list[Tensor]:
    """Write all columns; return the inner products of what is stored, block by block."""
    block_of = [block for block in range(len(blocks)) for _ in range(blocks[block].tensors)]
    inner = [torch.zeros(len(b.columns), len(b.columns), dtype=torch.float64) for b in blocks]
    place = Place()
    for rows, x in vectors.chunks(again=True):
        number = block_of[rows.index]
        mixture = blocks[number].mixture
        columns = torch.mm(mixture, x, out=place.of(len(mixture), x.shape[1]))
        stored = writer.write(rows.index, rows.start, columns).float()
        inner[number] += stored @ stored.T
    return [gram * writer.scale**2 for gram in inner]


def _cleaned(block: _Block, inner: Tensor) -> _Block:
    """Return the block with mixtures whose columns are orthonormal, as near to the old ones as can be."""
    if not len(inner):
        return block
    values, vectors = torch.linalg.eigh(inner)
    root = (vectors / values.sqrt()) @ vectors.T
    return _Block(tensors=block.tensors, columns=block.columns, mixture=root @ block.mixture)


def _off(gram: Tensor) -> float:
    return float((gram - torch.eye(len(gram), dtype=gram.dtype)).abs().max()) if len(gram) else 0.0
