r"""Which weights move is learned, and most do not: a sparse difference.

:math:`\theta = \theta_0 + \delta`, :math:`\delta = z \odot w` with a gate a weight. Gates are hard concrete: with
:math:`u \sim U(0, 1)` drawn anew for each batch,

.. math::
    s = \sigma(\log u - \log(1 - u) + \alpha), \qquad z = \min(1, \max(0, s (r - l) + l)),
    \qquad l = -1.5,\ r = 1.5,

and outside of training :math:`s = \sigma(\alpha)`. The expected number of open gates,

.. math:: \mathbb{E}\|\delta\|_0 \le \sum_i \sigma(\alpha_i - \log(-l / r)),

times ``sparsity`` is added to the loss. In the structured form every tensor has one more gate, which multiplies those
of its weights; a term of the sum is then the product of both probabilities. All :math:`\alpha` start at 5 and all
:math:`w` at 0, so training begins at the base.

Over the last ``settled`` of the steps the gates are fixed: of all entries of :math:`\delta` the ``fraction`` with the
largest magnitude stays, the others are zero for good, and what stays is trained on without gates. At the latest that
happens after the last step, so the fraction is always met. Until then w and :math:`\alpha` are both of the size of the
network. Stored are the entries that stay, each with the number of its place.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from idim.methods.base import Attached, Group, Method, OwnRate, Setting
from idim.methods.options import positive, share
from idim.methods.places import body_parameters, nothing
from idim.methods.specification.parametrized import Parametrized, fresh_dtype
from idim.models.init import generator

LOW, HIGH = -1.5, 1.5
OPEN = 5.0  # of alpha at the start: nearly every gate is open


class Gated(nn.Module):
    """A tensor with a difference behind gates.

    Args:
        base: the tensor.
        structured: whether the tensor as a whole has a gate too.
        dice: draws the gates in training.
    """

    def __init__(self, base: Tensor, structured: bool, dice: torch.Generator) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(base.shape, dtype=fresh_dtype(base)))
        self.alpha = nn.Parameter(torch.full_like(self.w, OPEN))
        self.whole = nn.Parameter(torch.tensor(OPEN)) if structured else None
        self.dice = dice
        self.kept: Tensor | None = None

    def gates(self) -> list[nn.Parameter]:
        """Return the parameters behind the gates."""
        return [self.alpha] if self.whole is None else [self.alpha, self.whole]

    def difference(self) -> Tensor:
        """Return delta, with gates drawn in training."""
        if self.kept is not None:
            return self.w * self.kept
        delta: Tensor = self.w
        for alpha in self.gates():
            delta = delta * self._opened(alpha)
        return delta

    def forward(self, base: Tensor) -> Tensor:
        """Return the tensor with the difference; the sum is rounded once."""
        return (base.to(self.w.dtype) + self.difference()).to(base.dtype)

    def expected(self) -> Tensor:
        """Return the expected number of open gates."""
        shift = torch.tensor(-LOW / HIGH).log()
        chances = [torch.sigmoid(alpha - shift) for alpha in self.gates()]
        return chances[0].sum() if self.whole is None else chances[0].sum() * chances[1]

    def settle(self, kept: Tensor) -> None:
        """Fix the gates: entries outside ``kept`` are zero from now on."""
        with torch.no_grad():
            self.w.copy_(self.eval().difference() * kept)
        self.kept = kept

    def _opened(self, alpha: Tensor) -> Tensor:
        drawn = alpha
        if self.training:
            u = torch.rand(alpha.shape, generator=self.dice, dtype=alpha.dtype).clamp_(1e-6, 1 - 1e-6)
            drawn = u.log() - (1 - u).log() + alpha
        return (torch.sigmoid(drawn) * (HIGH - LOW) + LOW).clamp(0, 1)


class AttachedDifference(Parametrized):
    """Gated differences on the tensors of a network.

    Args:
        model: the network.
        maps: one a tensor.
        method: the options.
        steps: after which the gates are fixed.
    """

    maps: dict[str, Gated]  # type: ignore[assignment]

    def __init__(self, model: nn.Module, maps: Mapping[str, Gated], method: DiffPruning, steps: int) -> None:
        super().__init__(model, maps)
        self.method, self.steps = method, steps

    @property
    def settled(self) -> bool:
        """Whether the gates are fixed."""
        return all(gated.kept is not None for gated in self.maps.values())

    def penalty(self) -> Tensor | None:
        """Return the expected number of open gates, weighted."""
        if self.settled:
            return None
        return self.method.sparsity * torch.stack([gated.expected() for gated in self.maps.values()]).sum()

    def own_rates(self) -> Sequence[OwnRate]:
        """Return what is behind the gates: it moves over several units while weights move over thousandths."""
        return [([alpha for gated in self.maps.values() for alpha in gated.gates()], self.method.gate_lr)]

    def after_step(self, step: int) -> None:
        """Fix the gates when it is time."""
        if step >= self.steps and not self.settled:
            self._settle()

    def stored(self) -> dict[str, Tensor]:
        """Return the largest entries of the difference and their places in all of it."""
        flat = self._flat()
        places = self._largest(flat).sort().values
        return {"places": places.to(torch.int32), "values": flat[places]}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the entries; the gates are fixed then."""
        flat = torch.zeros_like(self._flat())
        flat[tensors["places"].long()] = tensors["values"]
        for gated, part in zip(self.maps.values(), self._split(flat), strict=True):
            gated.kept = part != 0
            gated.w.data.copy_(part)

    def merge(self) -> nn.Module:
        """Return the network with the largest entries of the difference added; the gates are fixed if they are not."""
        if not self.settled:
            self._settle()
        return super().merge()

    def _settle(self) -> None:
        flat = self._flat()
        kept = torch.zeros_like(flat, dtype=torch.bool)
        kept[self._largest(flat)] = True
        for gated, part in zip(self.maps.values(), self._split(kept), strict=True):
            training = gated.training
            gated.settle(part)
            gated.train(training)

    def _flat(self) -> Tensor:
        """Return the difference outside of training, end to end."""
        with torch.no_grad():
            modes = [(gated, gated.training) for gated in self.maps.values()]
            flat = torch.cat([gated.eval().difference().reshape(-1) for gated, _ in modes])
            for gated, training in modes:
                gated.train(training)
        return flat

    def _largest(self, flat: Tensor) -> Tensor:
        return flat.abs().topk(max(1, round(self.method.fraction * len(flat)))).indices

    def _split(self, flat: Tensor) -> list[Tensor]:
        shapes = [gated.w.shape for gated in self.maps.values()]
        edges = [0, *itertools.accumulate(shape.numel() for shape in shapes)]
        return [flat[a:b].view(shape) for a, b, shape in zip(edges, edges[1:], shapes, strict=False)]


@dataclass(frozen=True, kw_only=True)
class DiffPruning(Method):
    """A sparse difference from the base, its places learned through gates.

    Args:
        fraction: of the body's numbers that differ in the end.
        structured: whether every tensor as a whole has a gate too.
        sparsity: weight of the expected number of open gates in the loss.
        gate_lr: learning rate of what is behind the gates.
        settled: share of the steps, the last ones, with gates fixed.

    Raises:
        RequestError: for a value out of range.
    """

    name: ClassVar[str] = "diffpruning"
    group: ClassVar[Group] = "specification"
    source: ClassVar[str] = "D. Guo, A. Rush and Y. Kim, Diff Pruning, 2021, arXiv:2012.07463"

    fraction: float = 0.005
    structured: bool = True
    sparsity: float = 1.25e-7
    gate_lr: float = 0.1
    settled: float = 0.3

    def __post_init__(self) -> None:
        positive(self.name, fraction=self.fraction, gate_lr=self.gate_lr)
        share(self.name, fraction=self.fraction, settled=self.settled)
        if self.sparsity:
            positive(self.name, sparsity=self.sparsity)

    def attach(self, model: nn.Module, setting: Setting) -> Attached:
        """Put a gated difference on every float tensor.

        Raises:
            CannotAttach: when the network has no float parameters outside its head.
        """
        named = {name: p for name, p in body_parameters(model).items() if p.is_floating_point()}
        if not named:
            raise nothing(self.name, model, "float parameters")
        dice = generator(setting.seed, "diffpruning/gates")
        maps = {name: Gated(p, self.structured, dice) for name, p in named.items()}
        return AttachedDifference(model, maps, self, max(1, setting.steps - round(self.settled * setting.steps)))
