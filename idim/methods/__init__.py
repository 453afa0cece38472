"""Every way of tuning a network, behind one small interface (:mod:`idim.methods.base`).

    method = methods.parse("lora:rank=4")
    attached = methods.attach(method, model, Setting(seed=0, steps=100))
    ...  # train the parameters of attached.module that require gradients
    plain = attached.merge()

``METHODS`` is the table of all of them; a new one is one class in one file and one line here.
"""

from __future__ import annotations

from torch import nn

from idim.errors import RequestError
from idim.errors import unknown as _unknown
from idim.methods.adalora import AdaLoRA
from idim.methods.adapter import Adapter
from idim.methods.base import Attached, CannotAttach, Method, Setting
from idim.methods.combined import Combined
from idim.methods.dora import DoRA
from idim.methods.full import Full, Probe
from idim.methods.ladder import Ladder
from idim.methods.lora import LoRA
from idim.methods.names import construct as _construct
from idim.methods.places import body_parameters as _body_parameters
from idim.methods.prefix import Prefix, PTuning2
from idim.methods.prompt import Prompt
from idim.methods.ptuning import PTuning
from idim.methods.qlora import QLoRA
from idim.methods.specification.diffpruning import DiffPruning
from idim.methods.specification.masks import Masks
from idim.methods.specification.parts import BitFit, Last, Norm
from idim.methods.specification.random_mask import RandomMask
from idim.methods.subspaces import DID, SAID
from idim.methods.tinylora import TinyLoRA
from idim.methods.unilora import UniLoRA
from idim.methods.vera import VeRA

__all__ = ["METHODS", "Attached", "CannotAttach", "Method", "Setting", "attach", "canonical", "parse"]

METHODS: dict[str, type[Method]] = {
    cls.name: cls
    for cls in (
        Full,
        Probe,
        LoRA,
        AdaLoRA,
        DoRA,
        QLoRA,
        VeRA,
        UniLoRA,
        TinyLoRA,
        Adapter,
        Prompt,
        PTuning,
        Prefix,
        PTuning2,
        Ladder,
        Last,
        BitFit,
        Norm,
        RandomMask,
        DiffPruning,
        Masks,
        DID,
        SAID,
    )
}


def parse(name: str) -> Method:
    """Return the method that a name stands for: ``lora``, ``lora:rank=4,alpha=8``, ``adapter+bitfit``.

    Raises:
        RequestError: for an unknown method or option, or methods that cannot be had together.
    """
    parts = [_one(part) for part in name.split("+")]
    return parts[0] if len(parts) == 1 else Combined(parts=tuple(parts))


def canonical(name: str) -> str:
    """Return the shortest name of the same method.

    Raises:
        RequestError: as :func:`parse`.
    """
    return parse(name).written()


def attach(method: Method, model: nn.Module, setting: Setting) -> Attached:
    """Freeze a network but for its head, and put a method on it, in place.

    Raises:
        CannotAttach: when the network has no place for the method.
    """
    for parameter in _body_parameters(model).values():
        parameter.requires_grad_(False)
    return method.attach(model, setting)


def _one(name: str) -> Method:
    kind, colon, options = name.partition(":")
    if kind not in METHODS:
        raise _unknown("method", kind, METHODS)
    if colon and not options:
        raise RequestError(f"method {kind!r} takes options as {kind}:OPTION=VALUE; received {name!r}")
    return _construct(METHODS[kind], options)
