"""Which methods a network has a place for, found out by attaching them, before anything trains."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from idim import methods
from idim.errors import RequestError
from idim.methods import Setting
from idim.models import has_head


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Which methods attach, and why the others do not, by name."""

    attaching: tuple[str, ...]
    refused: dict[str, str]


def fit(names: Iterable[str], network: nn.Module, *, steps: int) -> Fit:
    """Try every method on a copy of a network, which stays as it is."""
    reasons = {name: reason(name, copy.deepcopy(network), steps=steps) for name in names}
    return Fit(
        attaching=tuple(name for name, why in reasons.items() if not why),
        refused={name: why for name, why in reasons.items() if why},
    )


def reason(name: str, network: nn.Module, *, steps: int) -> str:
    """Return why a method cannot be had on a network, which it changes; empty when it can."""
    try:
        attached = methods.attach(methods.parse(name), network, Setting(seed=0, steps=steps))
    except RequestError as error:
        return str(error)
    if any(parameter.requires_grad for parameter in attached.module.parameters()):
        return ""
    lacking = "" if has_head(network) else ", which has no fresh last layer"
    return f"method {name!r} must have something to train; received a network{lacking} where it has nothing"


def check_asked(asked: Iterable[str], found: Fit) -> None:
    """Refuse a method that was asked for by name and does not attach, and a table without a row.

    Raises:
        RequestError: with the method's own reason.
    """
    for name in asked:
        if (why := found.refused.get(methods.canonical(name))) is not None:
            raise RequestError(why)
    if not found.attaching:
        raise RequestError(next(iter(found.refused.values())))
