r"""The loss of a network over a data set, as a function of one vector :math:`\theta`.

For rows :math:`(x_n, y_n)` with weights :math:`w_n` (one each, unless given) it is

.. math::
    L(\theta) = \frac{1}{W} \sum_n w_n\, \ell(f_\theta(x_n), y_n), \qquad W = \sum_n w_n,

the whole sum and no sample of it. Rows go through the network a batch at a time, and what the batches give is
added up in float64, so the size of a batch changes no more than round-off.

The network is copied when the objective is made and the copy is never moved: dropout is off, BatchNorm uses its
running statistics, and :math:`\theta` stays where it was when training goes on in the original.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from idim.errors import RequestError
from idim.parameters import Layout, Patterns, choose

Loss = Callable[[Tensor, Tensor], Tensor]
Batch = tuple[Tensor, Tensor, float]
BATCH = 512  # rows


class Objective:
    """The mean loss over rows at the parameters of ``model`` as they are now (see the module).

    Args:
        model: called with inputs, returns one tensor; it is copied and left as it is.
        loss: of outputs and targets, a mean over the rows of a batch.
        inputs: [n, ...], all rows.
        targets: [n, ...].
        weights: what each row counts, [n], where ``loss`` is a weighted mean; None: all the same.
        include, exclude: name patterns of the parameters that make up theta, as for :func:`idim.parameters.choose`.
        batch: rows of one pass.
        double: compute in float64, else in float32.

    Attributes:
        layout: where each tensor lies in theta; shapes and dtypes are those of ``model``.

    Raises:
        RequestError: for rows that do not go together, weights that sum to nothing, or patterns that match nothing.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        inputs: Tensor,
        targets: Tensor,
        *,
        weights: Tensor | None = None,
        include: Patterns = "*",
        exclude: Patterns = (),
        batch: int = BATCH,
        double: bool = False,
    ) -> None:
        _check_rows(inputs, targets, weights, batch)
        self.layout = Layout.of(choose(model, include=include, exclude=exclude).inside)
        self.dtype = torch.float64 if double else torch.float32
        self.model = copy.deepcopy(model).to(self.dtype).eval().requires_grad_(False)
        self.parameters = [self.model.get_parameter(name).requires_grad_(True) for name in self.layout.names]
        self.loss, self.batch = loss, batch
        self.inputs, self.targets = inputs, targets
        self.weights = torch.ones(len(targets)) if weights is None else weights

    @property
    def D(self) -> int:
        """Number of parameters that theta has."""
        return self.layout.D

    @property
    def device(self) -> torch.device:
        """Where theta is, and where all is computed."""
        return self.parameters[0].device

    def __len__(self) -> int:
        return len(self.targets)

    def batches(self, rows: int | None = None) -> Iterator[Batch]:
        """Yield inputs, targets and the share of the whole weight, so many rows at a time."""
        rows = rows or self.batch
        whole = float(self.weights.double().sum())
        for start in range(0, len(self), rows):
            part = slice(start, start + rows)
            if share := float(self.weights[part].double().sum()) / whole:
                yield self._placed(self.inputs[part]), self._placed(self.targets[part]), share

    def batch_loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss over some rows, a node of autograd.

        Raises:
            RequestError: when it is not one finite number.
        """
        value = self.loss(self.outputs(inputs), targets)
        if value.numel() != 1 or not bool(torch.isfinite(value)):
            received = f"{float(value.detach()):g}" if value.numel() == 1 else f"shape {list(value.shape)}"
            raise RequestError(f"the loss of a batch must be one finite number; received {received}")
        return value

    def outputs(self, inputs: Tensor) -> Tensor:
        """Return what the network answers, a node of autograd.

        Raises:
            RequestError: when it is not one tensor.
        """
        with differentiable():
            answer = self.model(inputs)
        if not isinstance(answer, Tensor):
            raise RequestError(f"the model must return one tensor; received {type(answer).__name__}")
        return answer

    def value(self) -> float:
        """Return L(theta)."""
        with torch.no_grad():
            return sum(share * float(self.batch_loss(x, y)) for x, y, share in self.batches())

    def theta(self) -> Tensor:
        """Return the parameters end to end, [D]."""
        return flat(self.parameters)

    def gradient(self) -> Tensor:
        """Return the gradient of L, [D]."""
        return self.summed(share * self.flat_gradient(self.batch_loss(x, y)) for x, y, share in self.batches())

    def gradients(self, rows: int) -> Iterator[Tensor]:
        """Yield the gradient [D] of the mean loss of each batch of so many rows, in their order; 1: of each row."""
        for inputs, targets, _ in self.batches(rows):
            yield self.flat_gradient(self.batch_loss(inputs, targets))

    def flat_gradient(self, value: Tensor) -> Tensor:
        """Return the gradient of a scalar with respect to theta, [D]; zero where it does not depend on it."""
        if not value.requires_grad:
            return self.parameters[0].new_zeros(self.D)
        return flat(torch.autograd.grad(value, self.parameters, materialize_grads=True))

    def tensors(self, vector: Tensor) -> list[Tensor]:
        """Return a vector [D] as tensors in the shapes of the parameters.

        Raises:
            RequestError: when it has another size.
        """
        if tuple(vector.shape) != (self.D,):
            raise RequestError(f"a vector must have shape [{self.D}]; received {list(vector.shape)}")
        pieces = torch.split(vector.to(self.device, self.dtype), list(self.layout.sizes))
        return [piece.view(shape) for piece, shape in zip(pieces, self.layout.shapes, strict=True)]

    def summed(self, parts: Iterable[Tensor]) -> Tensor:
        """Return the sum of vectors [D], added up in float64."""
        total = torch.zeros(self.D, dtype=torch.float64, device=self.device)
        for part in parts:
            total += part
        return total.to(self.dtype)

    def _placed(self, values: Tensor) -> Tensor:
        return values.to(self.device, self.dtype if values.is_floating_point() else values.dtype)


def differentiable() -> AbstractContextManager[None]:
    """Return a context whose attention can be differentiated twice: the fused kernels cannot."""
    return sdpa_kernel(SDPBackend.MATH)


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """Return tensors end to end, detached."""
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def _check_rows(inputs: Tensor, targets: Tensor, weights: Tensor | None, batch: int) -> None:
    if len(inputs) != len(targets) or not len(targets):
        raise RequestError(
            f"inputs and targets must be the same number of rows, at least 1; received {len(inputs)} and {len(targets)}"
        )
    if batch < 1:
        raise RequestError(f"a batch must have at least 1 row; received {batch}")
    if weights is None:
        return
    if tuple(weights.shape) != (len(targets),):
        raise RequestError(f"weights must have shape [{len(targets)}]; received {list(weights.shape)}")
    if not bool((weights >= 0).all()) or not bool((weights > 0).any()):
        raise RequestError(f"weights must be at least 0 and not all 0; received {weights.min():g} to {weights.max():g}")
