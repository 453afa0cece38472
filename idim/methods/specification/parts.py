r"""Parts of a network that move as they are: biases, normalisation layers, the last blocks.

With a set :math:`S` of the rows of :math:`\theta`, :math:`\theta_S` is trained and the rest stays at
:math:`\theta_0`. That is the subspace :math:`\theta_0 + P z` whose P is
:class:`~idim.projections.Selector` over S, and with an optimizer that looks at gradients alone (no weight decay)
both take the same steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from idim.methods.base import Attached, CannotAttach, Group, Method, Setting
from idim.methods.full import Moved, unrounded
from idim.methods.options import at_least
from idim.methods.places import blocks, body_modules, body_parameters, nothing

NORMS = (
    nn.LayerNorm,
    nn.RMSNorm,
    nn.GroupNorm,
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
)
NAMED_NORMS = ("LayerNorm", "RMSNorm")
"""Ends of the names of classes that language models bring along for the same."""


@dataclass(frozen=True, kw_only=True)
class BitFit(Method):
    """Every bias term moves, those of normalisation layers too, and nothing else."""

    name: ClassVar[str] = "bitfit"
    group: ClassVar[Group] = "specification"
    source: ClassVar[str] = "E. Ben Zaken, S. Ravfogel and Y. Goldberg, BitFit, 2021, arXiv:2106.10199"

    def attach(self, model: nn.Module, setting: Setting) -> Attached:
        """Let the biases move.

        Raises:
            CannotAttach: when there are none.
        """
        named = body_parameters(model)
        biases = {name: p for name, p in named.items() if name.rpartition(".")[2] == "bias"}
        return _moved(self.name, model, biases, "parameters named bias")


@dataclass(frozen=True, kw_only=True)
class Norm(Method):
    """Weights and biases of the normalisation layers move: LayerNorm, RMSNorm, BatchNorm and their like.

    Running statistics follow the batches of training here as with every method.
    """

    name: ClassVar[str] = "norm"
    group: ClassVar[Group] = "specification"
    source: ClassVar[str] = (
        "W. Qi et al., Parameter-Efficient Tuning on Layer Normalization, 2022, arXiv:2211.08682; "
        "J. Frankle, D. Schwab and A. Morcos, Training BatchNorm and Only BatchNorm, 2020, arXiv:2003.00152"
    )

    def attach(self, model: nn.Module, setting: Setting) -> Attached:
        """Let the normalisation layers move.

        Raises:
            CannotAttach: when there are none with parameters.
        """
        norms = {id(p) for _, module in _norms(model) for p in module.parameters(recurse=False)}
        chosen = {name: p for name, p in body_parameters(model).items() if id(p) in norms}
        return _moved(self.name, model, chosen, "normalisation layers with parameters (LayerNorm, RMSNorm, BatchNorm)")


@dataclass(frozen=True, kw_only=True)
class Last(Method):
    """The last k blocks move, and all that the network registers after the first of them.

    Blocks are found by :func:`idim.methods.places.blocks`: the layers of a transformer, the residual blocks of all
    stages; in a network where nothing repeats, its layers.

    Args:
        k: number of blocks.
    """

    name: ClassVar[str] = "last"
    group: ClassVar[Group] = "specification"
    source: ClassVar[str] = "J. Lee, R. Tang and J. Lin, What Would Elsa Do?, 2019, arXiv:1911.03090"

    k: int = 2

    def __post_init__(self) -> None:
        at_least(self.name, 1, k=self.k)

    @property
    def through(self) -> bool:
        """Back-propagation ends at the first block that moves."""
        return False

    def attach(self, model: nn.Module, setting: Setting) -> Attached:
        """Let the last blocks move.

        Raises:
            CannotAttach: when there are fewer than k, or they are rounded to whole numbers.
        """
        found = blocks(model)
        if len(found) < self.k:
            raise CannotAttach(
                f"method {self.name!r} looks for k = {self.k} blocks or layers; received a network of {len(found)}: "
                "give a smaller k"
            )
        first = f"{found[-self.k][0]}."
        named = body_parameters(model)
        start = next(i for i, name in enumerate(named) if name.startswith(first))
        return _moved(self.name, model, dict(list(named.items())[start:]), "blocks with parameters")


def _norms(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    kinds = ((name, m) for name, m in body_modules(model))
    return ((name, m) for name, m in kinds if isinstance(m, NORMS) or type(m).__name__.endswith(NAMED_NORMS))


def _moved(method: str, model: nn.Module, chosen: Mapping[str, nn.Parameter], wanted: str) -> Attached:
    if not chosen:
        raise nothing(method, model, wanted)
    return Moved(model, unrounded(method, chosen))
