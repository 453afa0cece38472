r"""The subspace similarity of the LoRA paper, as a table over all leading subspaces.

With the leading singular directions of two updates as columns of :math:`U_A` and :math:`U_B`,

.. math:: \varphi(A, B, i, j) = \frac{\lVert U_A^{i\top} U_B^{j} \rVert_F^2}{\min(i, j)} \in [0, 1]

compares the span of the first :math:`i` of one with the span of the first :math:`j` of the other:
1 when one contains the other, 0 when they are orthogonal. It is the mean squared cosine of their
principal angles (Hu et al. 2021, "LoRA: low-rank adaptation of large language models",
arXiv:2106.09685, section 7.2 and appendix G). Where two neighbouring singular values are equal
the span of the first :math:`i` is not unique, and neither is that row of the table.
"""

from __future__ import annotations

import torch
from torch import Tensor

from idim.spectral.comparison.angles import check_same_space


def similarity_table(a: Tensor, b: Tensor) -> Tensor:
    """Return φ as a float64 table: entry [i - 1, j - 1] compares the first i with the first j columns.

    Args:
        a: [n, p], orthonormal columns, in descending order of their singular values.
        b: [n, q], the same.

    Raises:
        RequestError: when the two do not live in the same R^n.

    >>> similarity_table(torch.eye(3)[:, :2], torch.eye(3)[:, [0, 2]]).tolist()
    [[1.0, 1.0], [1.0, 0.5]]
    """
    check_same_space(a, b)
    shared = (a.double().T @ b.double()).square().cumsum(0).cumsum(1)
    smaller = torch.minimum(_counting(a.shape[1])[:, None], _counting(b.shape[1])[None, :])
    return (shared / smaller).clamp(max=1.0)


def _counting(k: int) -> Tensor:
    return torch.arange(1, k + 1, dtype=torch.float64)
