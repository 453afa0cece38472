"""Networks by name, or by path.

``mlp:200,200`` (hidden widths; ``mlp`` alone is that one), ``lenet``, ``linear``, and
``FILE.py:FUNCTION``, a user's own (:mod:`idim.models.user`).
"""

from __future__ import annotations

import re

from torch import nn

from idim.errors import RequestError, unknown
from idim.models import user
from idim.models.init import generator, he_normal
from idim.models.lenet import lenet
from idim.models.linear import linear
from idim.models.mlp import mlp

__all__ = ["MODELS", "build", "resolve"]

MODELS = ("lenet", "linear", "mlp")
WIDTHS = "200,200"
WIDTH = re.compile("[1-9][0-9]{0,5}")


def build(name: str, *, input_shape: tuple[int, ...], outputs: int, seed: int) -> nn.Module:
    """Return a float32 network on the CPU, its weights drawn from the stream "init" of ``seed``.

    Args:
        name: such as ``"mlp:200,200"`` or ``"net.py:build"`` (see the module).
        input_shape: shape of one row, without the batch.
        outputs: number of values it returns for a row.
        seed: any integer; the same seed gives the same weights.

    Raises:
        RequestError: for an unknown name, a wrong argument, or inputs that the network cannot take.
    """
    if user.is_path(name):
        return user.build(name, input_shape, outputs, generator(seed, "init"))
    kind, _, argument = name.partition(":")
    if kind not in MODELS:
        raise unknown("model", kind, MODELS)
    if argument and kind != "mlp":
        raise RequestError(f"model {kind!r} takes no argument; received {name!r}")
    if kind == "linear":
        return linear(input_shape, outputs)
    try:
        bare = lenet(input_shape, outputs) if kind == "lenet" else mlp(input_shape, outputs, _widths(name, argument))
    except RuntimeError as error:  # torch's way to say that memory is short
        raise RequestError(f"model {name!r} must fit into memory; received: {str(error).splitlines()[0]}") from error
    return he_normal(bare, generator(seed, "init"))


def resolve(name: str) -> str:
    """Return the name under which a model's runs are kept: itself, or with the hash of the user's file.

    Raises:
        RequestError: when the file is missing.
    """
    return user.pin(name) if user.is_path(name) else name


def _widths(name: str, argument: str) -> tuple[int, ...]:
    words = (argument or WIDTHS).split(",")
    if not all(WIDTH.fullmatch(word) for word in words) or name == "mlp:":
        raise RequestError(f"model 'mlp:W1,W2,...' needs widths from 1 to 999999; received {name!r}")
    return tuple(int(word) for word in words)
