"""``with:METHOD:MODEL``: a network whose own parameters are frozen, and which trains what a method has added to it.

``with:prompt:length=10:minilm`` is MiniLM behind a soft prompt, D = 10 x 384; ``with:lora:rank=1:minilm`` the same with
LoRA. Its parameters are those that the method trains, and the head. So the intrinsic dimension *of prompt tuning*, a
random subspace of prompts and one learned from other tasks are asked for as those of a whole network are: full training
of it is the method itself. Only the name is read here; :mod:`idim.runs.networks` builds it.
"""

from __future__ import annotations

import re

from idim.errors import RequestError

MARK = "with:"
FORM = "with:METHOD:MODEL"
NAME = re.compile(r"with:(?P<method>[a-z0-9+]+(?::[^:=]+=[^:]*)?):(?P<model>.+)", re.DOTALL)


def knows(name: str) -> bool:
    """Whether a model's name is that of a network with a method on it."""
    return name.startswith(MARK)


def method(name: str) -> str:
    """Return the name of the method.

    Raises:
        RequestError: for a name without a method or a network.

    >>> method("with:lora:rank=1,alpha=2:mlp:8"), method("with:bitfit:mlp:8")
    ('lora:rank=1,alpha=2', 'bitfit')
    """
    return _parts(name)["method"]


def inside(name: str) -> str:
    """Return the name of the network that the method is on.

    Raises:
        RequestError: for a name without a method or a network.

    >>> inside("with:lora:rank=1,alpha=2:mlp:8"), inside("with:bitfit:mlp:8")
    ('mlp:8', 'mlp:8')
    """
    return _parts(name)["model"]


def prefix(name: str) -> str:
    """Return what comes before the network's name.

    Raises:
        RequestError: for a name without a method or a network.
    """
    return name.removesuffix(inside(name))


def _parts(name: str) -> dict[str, str]:
    parts = NAME.fullmatch(name)
    if parts is None:
        raise RequestError(f"a network with a method on it is written {FORM}; received {name!r}")
    return parts.groupdict()
