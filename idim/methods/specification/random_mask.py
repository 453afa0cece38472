r"""A random set of single weights moves.

:math:`\theta = \theta_0 + P z` with P a :class:`~idim.projections.Selector` of
:math:`k = \mathrm{round}(f D)` rows that the seed draws from all D numbers of the body, uniformly. Trained are the k
numbers of z, in float32 or finer, and they are all that is stored: the rows follow from the seed. A change is added
to the base, so weight decay pulls towards the base.

Memory: the network's own weights, z with its indices, and in a training step a copy of every tensor that has a chosen
entry (:mod:`idim.methods.specification.parametrized`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from idim.methods.base import Attached, Group, Method, Setting
from idim.methods.options import share
from idim.methods.places import body_parameters, nothing
from idim.methods.specification.parametrized import Parametrized, fresh_dtype
from idim.parameters import Layout
from idim.projections import Selector


class Scattered(nn.Module):
    """A tensor with some of its entries moved.

    Args:
        rows: of the entries in the flat tensor, increasing, [k].
        dtype: of the change.
    """

    rows: Tensor

    def __init__(self, rows: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("rows", rows, persistent=False)
        self.z = nn.Parameter(torch.zeros(len(rows), dtype=dtype))

    def forward(self, base: Tensor) -> Tensor:
        """Return the tensor with z added to the chosen entries; the sum is rounded once."""
        flat = base.reshape(-1)
        moved = (flat[self.rows].to(self.z.dtype) + self.z).to(base.dtype)
        return flat.index_put((self.rows,), moved).view(base.shape)


@dataclass(frozen=True, kw_only=True)
class RandomMask(Method):
    """Random single weights of the whole body move; the seed says which.

    Args:
        fraction: of the body's numbers, above 0 and below 1.
    """

    name: ClassVar[str] = "random_mask"
    group: ClassVar[Group] = "specification"
    source: ClassVar[str] = "the random baseline of Y.-L. Sung, V. Nair and C. Raffel, 2021, arXiv:2111.09839"

    fraction: float = 0.005

    def __post_init__(self) -> None:
        share(self.name, fraction=self.fraction)

    def attach(self, model: nn.Module, setting: Setting) -> Attached:
        """Let the chosen entries move.

        Raises:
            CannotAttach: when the network has no float parameters outside its head, or too few for one to be chosen.
        """
        named = {name: p for name, p in body_parameters(model).items() if p.is_floating_point()}
        layout = Layout.of(named)
        k = round(self.fraction * layout.D)
        if not k:
            raise nothing(self.name, model, f"1/{self.fraction:g} float parameters or more, of which one moves")
        rows, _ = Selector(D=layout.D, d=k, seed=setting.seed).selected()
        edges = torch.searchsorted(rows, torch.tensor(layout.offsets)).tolist()
        parts = zip(layout.names, layout.offsets, edges, edges[1:], strict=False)
        chosen = ((name, rows[low:high] - start) for name, start, low, high in parts if high > low)
        return Parametrized(model, {name: Scattered(own, fresh_dtype(named[name])) for name, own in chosen})
