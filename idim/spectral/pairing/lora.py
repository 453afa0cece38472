r"""The exact change of a LoRA adapter: :math:`\Delta = s\, B A` as factors, never multiplied out.

.. math::
    s = \alpha / r \quad\text{or, rank-stabilised,}\quad s = \alpha / \sqrt{r},

with r and alpha from ``rank_pattern`` and ``alpha_pattern`` where a pattern matches the module's name. The
factors take the orientation of the stored weight: transposed where it is (in, out), as in GPT-2 and in
embeddings; a convolution's are those of its matrix (out, in · k · k).

Sources: E. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021, arXiv:2106.09685;
D. Kalajdzievski, "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA", 2023, arXiv:2312.03732.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from idim.errors import RequestError
from idim.spectral.pairing.delta import Factors

BASE_CHANGING = ("pissa", "olora", "corda", "loftq", "lora_ga")  # the base is not what the adapter was trained on
VARIANTS = (
    "use_qalora", "use_bdlora", "alora_invocation_tokens", "arrow_config", "kasa_config", "monteclora_config",
    "layer_replication", "target_parameters",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Scales:
    """Ranks and scales of an adapter's modules, as ``adapter_config.json`` gives them.

    Raises:
        RequestError: for a configuration with other values than numbers, or a pattern that is none.
    """

    config: Mapping[str, Any]

    def of(self, module: str) -> tuple[int, float]:
        """Return the rank of a module and the factor before B A."""
        r = _number(self.config, "r", _matched(self.config, "rank_pattern", module))
        alpha = _number(self.config, "lora_alpha", _matched(self.config, "alpha_pattern", module))
        if r < 1 or r != int(r):
            raise RequestError(f"the rank of an adapter must be a positive integer; received r = {r} for {module!r}")
        return int(r), alpha / math.sqrt(r) if self.config.get("use_rslora") else alpha / r


def check_plain(config: Mapping[str, Any], place: str) -> None:
    """Refuse what is no sum of the base and a product of factors, nor known to peft's merge here.

    Raises:
        RequestError: naming the option.
    """
    init = config.get("init_lora_weights")
    if isinstance(init, str) and init.lower().startswith(BASE_CHANGING):
        raise RequestError(
            f"an adapter must stand on the given base; received {place} with init_lora_weights {init!r}, which takes "
            "a part out of it: save it with path_initial_model_for_weight_conversion, or merge it and give the model"
        )
    for option in VARIANTS:
        if config.get(option):
            raise RequestError(
                f"this LoRA variant is not read; received {place} with {option}: merge it and give the model"
            )


def factors(a: Tensor, b: Tensor, scale: float, *, embedding: bool, matrix: tuple[int, int], swapped: bool) -> Factors:
    """Return the factors in the orientation of the stored matrix.

    Args:
        a: shape [r, in], [r, in, k, k] for a convolution, [r, rows] for an embedding.
        b: shape [out, r], [out, r, 1, 1], [columns, r].
        scale: the factor before B A.
        embedding: whether they are those of an embedding, whose weight is (rows, columns).
        matrix: (m, n) of the base, which decides the orientation where m and n differ.
        swapped: whether the configuration says that weights are (in, out).

    Raises:
        RequestError: when the factors fit the matrix in no orientation.
    """
    up, down = b.reshape(b.shape[0], -1), a.reshape(a.shape[0], -1)
    received = (up.shape[0], down.shape[1])
    if up.shape[1] != down.shape[0] or matrix not in (received, received[::-1]):
        raise RequestError(f"factors must multiply to {matrix}; received B {list(b.shape)} and A {list(a.shape)}")
    turned = swapped if matrix == matrix[::-1] else matrix != received
    if embedding or turned:
        up, down = down.mT, up.mT
    return Factors(up=up, down=down, scale=scale)


def stored_shape(a: Tensor, b: Tensor, embedding: bool) -> tuple[int, ...]:
    """Return the shape of the weight that factors change, where there is no base to tell: not transposed."""
    return (a.shape[1], b.shape[0]) if embedding else (b.shape[0], *a.shape[1:])


def _matched(config: Mapping[str, Any], field: str, module: str) -> object:
    """Return the value of the first pattern that matches the end of a module's name, or None."""
    patterns = config.get(field) or {}
    if not isinstance(patterns, Mapping):
        raise RequestError(f"{field} must map patterns to numbers; received {patterns!r}")
    try:
        return next((v for p, v in patterns.items() if re.match(rf"(.*\.)?({p})$", module)), None)
    except re.error as error:
        raise RequestError(f"{field} must have regular expressions; received {error.pattern!r}: {error}") from error


def _number(config: Mapping[str, Any], field: str, value: object) -> float:
    value = config.get(field) if value is None else value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RequestError(f"{field} of an adapter must be a number; received {value!r}")
    return value
