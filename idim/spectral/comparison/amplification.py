r"""The amplification factor of the LoRA paper: how much of an update is already in the weights.

With the r leading singular directions :math:`U, V` of :math:`\Delta W`,

.. math:: \frac{\lVert \Delta W \rVert_F}{\lVert U^\top W V \rVert_F}

is large when the update strengthens directions that the weights hardly use (Hu et al. 2021,
arXiv:2106.09685, section 7.3: about 21 for r = 4 in GPT-3). Two lines to read it by, as in the
paper's table: W's own r leading directions in place of the update's, and random ones, for which
:math:`\mathbb{E}\lVert U^\top W V \rVert_F^2 = r^2 \lVert W \rVert_F^2 / (m n)` exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from idim.errors import RequestError
from idim.spectral.decomposition.directions import Directions, times


@dataclass(frozen=True, kw_only=True)
class Amplification:
    """How the base weights act on the leading directions of the update; entry r - 1 of a tuple is for r directions.

    Attributes:
        update_norm: ‖ΔW‖_F.
        base_norm: ‖W‖_F.
        on_update: ‖UᵀWV‖_F with U, V of the update.
        on_own: the same with W's own leading directions.
        on_random: the root mean square of the same over random directions.
    """

    update_norm: float
    base_norm: float
    on_update: tuple[float, ...]
    on_own: tuple[float, ...]
    on_random: tuple[float, ...]

    def factor(self, r: int) -> float | None:
        """Return the amplification factor with r directions; None where the base does not act on them at all.

        Raises:
            RequestError: when the update has no r directions here.
        """
        if not 1 <= r <= len(self.on_update):
            raise RequestError(f"the update has {len(self.on_update)} directions here; received r = {r}")
        return self.update_norm / self.on_update[r - 1] if self.on_update[r - 1] else None


def amplification(base: Tensor, own: Tensor, update: Directions, *, base_norm: float) -> Amplification:
    """Return the amplification for r = 1, 2, … up to the directions given.

    Args:
        base: the base weights [m, n].
        own: their leading singular values, descending; those missing count as zero.
        update: the leading directions of the update.
        base_norm: ‖W‖_F.
    """
    m, n = base.shape
    core = update.left.T @ times(base, update.right)
    acted = core.square().cumsum(0).cumsum(1).diagonal().sqrt()
    kept = torch.zeros(update.rank, dtype=torch.float64)
    kept[: own.numel()] = own[: update.rank].double()
    return Amplification(
        update_norm=update.norm,
        base_norm=base_norm,
        on_update=tuple(acted.tolist()),
        on_own=tuple(kept.square().cumsum(0).sqrt().tolist()),
        on_random=tuple(r * base_norm / math.sqrt(m * n) for r in range(1, update.rank + 1)),
    )
