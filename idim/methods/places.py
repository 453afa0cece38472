"""Where methods attach: the parameters, layers and blocks of a network, found by what they are.

A method names what it looks for; when a network has none, the refusal says so (:func:`nothing`).
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from idim.methods.base import CannotAttach
from idim.models import HEAD


def in_head(name: str) -> bool:
    """Whether a parameter or module belongs to the fresh last layer, which methods leave alone."""
    return name == HEAD or name.startswith(f"{HEAD}.")


def body_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters of a network but those of its head, tied ones once, by name."""
    return {name: p for name, p in model.named_parameters() if not in_head(name)}


def body_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules of a network but its head, by name."""
    return ((name, module) for name, module in model.named_modules() if name and not in_head(name))


def nothing(method: str, model: nn.Module, wanted: str) -> CannotAttach:
    """Return the refusal of a method that found none of the modules it needs."""
    kinds = sorted({type(m).__name__ for _, m in body_modules(model) if not any(m.children())})
    return CannotAttach(
        f"method {method!r} looks for {wanted}; received a network of {', '.join(kinds) or 'no modules'}: "
        "choose another method"
    )
