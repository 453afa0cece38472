r"""The Hessian and the Gauss–Newton matrix of an objective, by their products with vectors.

With :math:`J_n = \partial f_\theta(x_n) / \partial\theta` and :math:`L(\theta)` the mean loss over all rows
(:mod:`idim.learned.objective`),

.. math::
    H = \nabla^2 L(\theta), \qquad
    G = \frac{1}{W} \sum_n w_n\, J_n^\top\, \big[\nabla^2_f\, \ell(f_\theta(x_n), y_n)\big]\, J_n .

They differ by the curvature of the network itself: :math:`G = H` where the outputs are linear in
:math:`\theta`, and where the loss is convex in the outputs G has no negative eigenvalue, unlike H.
For cross-entropy G is the Fisher matrix.

:math:`H v` is the gradient of :math:`\langle\nabla L, v\rangle` (B. Pearlmutter, "Fast Exact Multiplication by the
Hessian", 1994). For :math:`G v`, the product :math:`J v` is the derivative of the linear map
:math:`u \mapsto J^\top u`, so that only reverse passes are needed (N. Schraudolph, "Fast Curvature Matrix-Vector
Products for Second-Order Gradient Descent", 2002, gives the factors). A product costs some three
gradients of the whole data set; nothing of size D × D is made.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from idim.errors import RequestError
from idim.learned.objective import Objective, flat


class Curvature(ABC):
    """A symmetric D × D matrix of an objective, known by its products: linear in v, and ⟨u, A v⟩ = ⟨A u, v⟩.

    Args:
        objective: whose curvature, at its theta.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.D, self.dtype, self.device = objective.D, objective.dtype, objective.device

    def matvec(self, v: Tensor) -> Tensor:
        """Return A v, [D] -> [D], one pass over all rows.

        Raises:
            RequestError: for another size than D, or a loss that is not finite.
        """
        objective, tensors = self.objective, self.objective.tensors(v)
        with torch.enable_grad():
            parts = (share * self._product(x, y, tensors) for x, y, share in objective.batches())
            return objective.summed(parts)

    def to_dense(self) -> Tensor:
        """Return the matrix, [D, D]: for small D only."""
        identity = torch.eye(self.D, dtype=self.dtype, device=self.device)
        return torch.stack([self.matvec(column) for column in identity], dim=1)

    @abstractmethod
    def _product(self, inputs: Tensor, targets: Tensor, v: Sequence[Tensor]) -> Tensor:
        """Return the product for the mean loss over some rows."""


class Hessian(Curvature):
    """The second derivatives of the mean loss (see the module)."""

    def _product(self, inputs: Tensor, targets: Tensor, v: Sequence[Tensor]) -> Tensor:
        objective = self.objective
        value = objective.batch_loss(inputs, targets)
        slopes = torch.autograd.grad(value, objective.parameters, create_graph=True, materialize_grads=True)
        curved = [(slope * part).sum() for slope, part in zip(slopes, v, strict=True) if slope.requires_grad]
        along = torch.stack(curved).sum() if curved else value.new_zeros(())
        return objective.flat_gradient(along)


class GaussNewton(Curvature):
    """The curvature of the loss in the outputs, carried to theta by the network's Jacobian (see the module)."""

    def _product(self, inputs: Tensor, targets: Tensor, v: Sequence[Tensor]) -> Tensor:
        parameters = self.objective.parameters
        outputs = self.objective.outputs(inputs)
        moved = _forward(outputs, parameters, v)
        back = self._curved(outputs.detach(), targets, moved)
        return flat(torch.autograd.grad(outputs, parameters, back, materialize_grads=True))

    def _curved(self, outputs: Tensor, targets: Tensor, direction: Tensor) -> Tensor:
        """Return the second derivative of the loss in the outputs, times a direction there."""
        leaf = outputs.requires_grad_(True)
        value = self.objective.loss(leaf, targets)
        (slope,) = torch.autograd.grad(value, leaf, create_graph=True)
        if not slope.requires_grad:
            raise RequestError(
                "a Gauss–Newton matrix needs a loss that is curved in the outputs; received one that is linear in them "
                "(a network that returns losses, not answers?): use the Hessian"
            )
        (curved,) = torch.autograd.grad(slope, leaf, direction)
        return curved


def _forward(outputs: Tensor, parameters: Sequence[Tensor], v: Sequence[Tensor]) -> Tensor:
    """Return J v, in the shape of the outputs."""
    weights = torch.zeros_like(outputs, requires_grad=True)
    back = torch.autograd.grad(outputs, parameters, weights, create_graph=True, materialize_grads=True)
    pairs = [(slope, part) for slope, part in zip(back, v, strict=True) if slope.requires_grad]
    (moved,) = torch.autograd.grad([slope for slope, _ in pairs], weights, [part for _, part in pairs])
    return moved
