"""Networks by name: those of :mod:`idim.models`, and those with a method on them (:mod:`idim.models.tuned_by`)."""

from __future__ import annotations

from typing import Any

from torch import nn

from idim import methods, models
from idim.errors import RequestError
from idim.methods import Attached, Setting
from idim.models import tuned_by

OWN = ("penalty", "own_rates", "after_step")
"""What a method may ask of a training beyond parameters to train; where only those are named, it cannot be had."""


def build(name: str, *, seed: int, **options: Any) -> nn.Module:
    """Return the network of a name (options: :func:`idim.models.build`).

    With a method on it, what requires gradients is what the method trains, and the head.

    Raises:
        RequestError: when it cannot be built, or the method trains otherwise than by descent in its parameters.
        CannotAttach: when the network has no place for the method.
    """
    if not tuned_by.knows(name):
        return models.build(name, seed=seed, **options)
    network = models.build(tuned_by.inside(name), seed=seed, **options)
    method = tuned_by.method(name)
    attached = methods.attach(methods.parse(method), network, Setting(seed=seed, steps=1))
    if attached.module is not network or any(_asks(attached, what) for what in OWN) or not _trains(network):
        raise RequestError(
            f"model {tuned_by.FORM!r} takes a method that adds parameters to a network, or chooses some, and no more; "
            f"received {method!r}: take one such as prompt, lora or adapter"
        )
    return network


def _asks(attached: Attached, what: str) -> bool:
    return getattr(type(attached), what) is not getattr(Attached, what)


def _trains(network: nn.Module) -> bool:
    return any(p.requires_grad and not name.startswith(f"{models.HEAD}.") for name, p in network.named_parameters())
