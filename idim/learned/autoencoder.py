r"""Multi-task subspace finding: an auto-encoder over what tuning changed on many tasks.

Vectors :math:`x_1 \dots x_T \in \mathbb{R}^D`, one a task, are centred and scaled to entries of unit mean square. With
an affine encoder :math:`e: \mathbb{R}^D \to \mathbb{R}^d` and a decoder f, affine or
:math:`W_1 \tanh(W_0 z + b_0) + b_1`,

.. math:: \min_{e, f} \frac{1}{TD} \sum_t \|f(e(x_t)) - x_t\|^2 + \alpha \, L_k\big(f(e(x_k))\big)

by Adam, where :math:`L_k` is the loss of task k with the reconstructed parameters on a batch of its training rows. The
tasks take turns, in a new order each round. A first phase is of reconstruction alone: it costs no pass through a
network, and the task loss of a poor reconstruction teaches nothing. At the end the code is standardised over the
tasks, coordinate by coordinate, inside the decoder: z = 0 is the mean code, and one learning rate serves all decoders.

The principal components (``pca``) are the linear decoder that reconstructs best, without a task loss; T vectors have
at most T - 1 of them. An affine auto-encoder may have more coordinates: those beyond are directions of its random start
that the task loss alone has turned.

Deviations from Qin et al.: their loss weighs the reconstruction where here the task loss is weighed, and reconstruction
does not come first. Source: Y. Qin et al., "Exploring Universal Intrinsic Task Subspace via Prompt Tuning", 2021,
arXiv:2110.07867.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from idim.errors import RequestError, unknown
from idim.models.init import generator
from idim.models.layers import dense
from idim.projections.decoder_file import Layer

Kind = Literal["linear", "mlp", "pca"]
TaskLoss = Callable[[int, Tensor], Tensor]
"""The loss of task number t with its parameters changed by a vector [D]."""

LEAST_DEVIATION = 1e-3  # of a coordinate, beside that of the widest: below it stands still over the tasks


@dataclass(frozen=True, kw_only=True)
class Finding:
    """How a subspace of tasks is found.

    Args:
        kind: of the decoder: ``linear``, ``mlp`` (two layers with tanh between), or ``pca``.
        d: number of coordinates.
        hidden: width between the layers of an ``mlp``.
        alpha: weight of the task loss.
        first: steps of reconstruction alone.
        rounds: how often every task then has its turn.
        lr: learning rate of Adam; it falls to zero over the rounds as a cosine.
        seed: of initial weights, the order of the tasks and their batches.

    Raises:
        RequestError: for a number out of range.
    """

    kind: Kind = "linear"
    d: int
    hidden: int = 128
    alpha: float = 1.0
    first: int = 1000
    rounds: int = 20
    lr: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise unknown("decoder", self.kind, get_args(Kind))
        for name, least in (("d", 1), ("hidden", 1), ("first", 0), ("rounds", 0)):
            if getattr(self, name) < least:
                raise RequestError(f"{name} must be at least {least}; received {getattr(self, name)}")
        if not (0 <= self.alpha < math.inf and 0 < self.lr < math.inf):
            raise RequestError(f"alpha must be at least 0 and lr above 0; received {self.alpha} and {self.lr}")

    @property
    def turns(self) -> int:
        """Rounds in which the task loss is asked for."""
        return 0 if self.kind == "pca" or self.alpha == 0 else self.rounds

    def check(self, tasks: int) -> None:
        """Refuse what so many tasks cannot give.

        Raises:
            RequestError: for a single task, or more principal components than there are.
        """
        if tasks < 2:
            raise RequestError(f"a subspace of tasks needs at least two of them; received {tasks}: name more")
        if self.kind == "pca" and self.d >= tasks:
            raise RequestError(
                f"{tasks} tasks have at most {tasks - 1} principal components; received d = {self.d}: take a smaller "
                "d, more tasks, or a linear auto-encoder"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """A decoder and what it holds.

    Attributes:
        layers: of the decoder, from standardised codes to changes of the parameters.
        codes: of the tasks, [T, d], of mean 0 and deviation 1.
        errors: share of the squared norm of every centred vector that its reconstruction misses.
        task_losses: mean over the tasks in every round.
    """

    layers: tuple[Layer, ...]
    codes: Tensor
    errors: tuple[float, ...]
    task_losses: tuple[float, ...] = ()

    def decode(self, code: Tensor) -> Tensor:
        """Return the change of the parameters, [..., D], of codes [..., d]."""
        *inner, last = self.layers
        for layer in inner:
            code = torch.tanh(code @ layer.weight.T + layer.bias)
        changed: Tensor = code @ last.weight.T + last.bias
        return changed


def find(vectors: Tensor, finding: Finding, task_loss: TaskLoss | None = None) -> Found:
    """Return the decoder of a subspace of tasks.

    Args:
        vectors: [T, D], what tuning changed on every task.
        finding: how.
        task_loss: asked only in rounds; without it there are none.

    Raises:
        RequestError: when so many vectors cannot give it, they are not finite, or all are the same.
    """
    finding.check(len(vectors))
    if not bool(torch.isfinite(vectors).all()):
        raise RequestError("what is learned from must be finite; received other numbers among the tunings")
    mean = vectors.float().mean(0)
    centred = vectors.float() - mean
    scale = float(centred.square().mean().sqrt())
    if not scale > 0:
        raise RequestError(f"tunings must differ to be learned from; received {len(vectors)} that are all the same")
    inputs = centred / scale
    if finding.kind == "pca":
        layer = _principal(inputs, finding.d)
        return _standardised((layer,), inputs @ layer.weight, inputs, mean, scale, ())
    net = _AutoEncoder(inputs.shape[1], finding)
    changed = None if task_loss is None else lambda k, x: task_loss(k, mean + scale * x)
    losses = _train(net, inputs, finding, changed)
    return _standardised(net.layers(), net.encoder(inputs).detach(), inputs, mean, scale, losses)


class _AutoEncoder(nn.Module):
    def __init__(self, D: int, finding: Finding) -> None:
        super().__init__()
        draw = generator(finding.seed, f"autoencoder/{finding.kind}/{finding.d}")
        sizes = (finding.d, D) if finding.kind == "linear" else (finding.d, finding.hidden, D)
        self.encoder = _drawn(D, finding.d, draw)
        parts = [_drawn(a, b, draw) for a, b in itertools.pairwise(sizes)]
        self.decoder = nn.Sequential(parts[0], *(m for part in parts[1:] for m in (nn.Tanh(), part)))

    def forward(self, inputs: Tensor) -> Tensor:
        rebuilt: Tensor = self.decoder(self.encoder(inputs))
        return rebuilt

    def layers(self) -> tuple[Layer, ...]:
        linear = [m for m in self.decoder if isinstance(m, nn.Linear)]
        return tuple(Layer(weight=m.weight.detach(), bias=m.bias.detach()) for m in linear)


def _drawn(fan_in: int, fan_out: int, draw: torch.Generator) -> nn.Linear:
    layer = dense(fan_in, fan_out)
    nn.init.normal_(layer.weight, std=fan_in**-0.5, generator=draw)
    nn.init.zeros_(layer.bias)
    return layer


def _train(net: _AutoEncoder, inputs: Tensor, finding: Finding, task_loss: TaskLoss | None) -> tuple[float, ...]:
    """Train in place; return the mean task loss of every round."""
    optimizer = torch.optim.Adam(net.parameters(), lr=finding.lr, fused=True)
    for _ in range(finding.first):
        _step(optimizer, (net(inputs) - inputs).square().mean())
    rounds: list[float] = []
    order, turns = generator(finding.seed, "autoencoder/order"), 0 if task_loss is None else finding.turns
    for turn in range(turns):
        optimizer.param_groups[0]["lr"] = finding.lr * (1 + math.cos(math.pi * turn / turns)) / 2
        rounds.append(0.0)
        for k in torch.randperm(len(inputs), generator=order).tolist():
            rebuilt = net(inputs)
            loss = task_loss(k, rebuilt[k])  # type: ignore[misc]
            rounds[-1] += float(loss.detach()) / len(inputs)
            _step(optimizer, (rebuilt - inputs).square().mean() + finding.alpha * loss)
    return tuple(rounds)


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _principal(inputs: Tensor, d: int) -> Layer:
    """Return the decoder of the leading principal components of centred vectors: orthonormal columns."""
    _, _, right = torch.linalg.svd(inputs.double(), full_matrices=False)
    return Layer(weight=right[:d].T.float().contiguous(), bias=torch.zeros(inputs.shape[1]))


def _standardised(
    layers: Sequence[Layer], codes: Tensor, inputs: Tensor, mean: Tensor, scale: float, losses: tuple[float, ...]
) -> Found:
    """Return the decoder of codes of mean 0 and deviation 1 over the tasks, and of parameters at their own scale."""
    centre, deviation = codes.mean(0), codes.std(0, correction=0)
    deviation = deviation.clamp(min=LEAST_DEVIATION * float(deviation.max()))
    first, *rest = layers
    moved = Layer(weight=first.weight * deviation, bias=first.bias + first.weight @ centre)
    *inner, last = (moved, *rest)
    scaled = Layer(weight=scale * last.weight, bias=mean + scale * last.bias)
    found = Found(layers=(*inner, scaled), codes=(codes - centre) / deviation, errors=(), task_losses=losses)
    missed = (found.decode(found.codes) - mean) / scale - inputs
    shares = missed.square().sum(1) / inputs.square().sum(1)
    return Found(layers=found.layers, codes=found.codes, errors=tuple(shares.tolist()), task_losses=losses)


def column_space(found: Found) -> Tensor:
    """Return orthonormal columns [D, r] that span what the decoder moves in around the mean code."""
    *inner, last = found.layers
    weight = last.weight.double()
    for layer in inner:
        slope = 1 - torch.tanh(layer.bias.double()).square()
        weight = weight @ (slope.unsqueeze(1) * layer.weight.double())
    columns: Tensor = torch.linalg.qr(weight).Q
    return columns
