"""Where methods attach: the parameters, layers and blocks of a network, found by what they are.

A method names what it looks for; when a network has none, the refusal says so (:func:`nothing`).
"""

from __future__ import annotations

from collections import Counter
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


def blocks(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the repeated blocks of a network from first to last, by name; where nothing repeats, its layers.

    Blocks are the composite modules of the class that is most frequent among the elements of ``nn.ModuleList`` and
    ``nn.Sequential``: the layers of a transformer, the residual blocks of all stages. Layers have parameters and no
    children. Both come in the order of registration.
    """
    modules = dict(body_modules(model))
    listed = {
        f"{name}.{leaf}" if name else leaf
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList | nn.Sequential)
        for leaf, _ in module.named_children()
    }
    elements = [(n, m) for n, m in modules.items() if n in listed and any(m.children()) and _has_parameters(m)]
    counts = Counter(type(module) for _, module in elements if not isinstance(module, nn.Sequential))
    if counts and (most := counts.most_common(1)[0])[1] > 1:
        return [(name, module) for name, module in elements if type(module) is most[0]]
    return [(n, m) for n, m in modules.items() if not any(m.children()) and _has_parameters(m)]


def nothing(method: str, model: nn.Module, wanted: str) -> CannotAttach:
    """Return the refusal of a method that found none of the modules it needs."""
    kinds = sorted({type(m).__name__ for _, m in body_modules(model) if not any(m.children())})
    return CannotAttach(
        f"method {method!r} looks for {wanted}; received a network of {', '.join(kinds) or 'no modules'}: "
        "choose another method"
    )


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None
