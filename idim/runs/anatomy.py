"""What a training has changed, and what keeping it takes: the counts of Ding et al. 2022, arXiv:2203.06904.

==============  =======================================================================================
``trained``     numbers the optimizer saw, without the head's
``changed``     parameters of the network that differ from the base's; 0 where a method only adds
``added``       numbers that a method has put beside the base and keeps; 0 where it merges
``buffers``     running statistics that differ from the base's: any forward pass in training moves them
``stored_bytes``  bytes to store beside base and head: what the method keeps, and those statistics
``merges``      whether the change is one of the network's own parameters
``through``     whether back-propagation passes through the whole network
``ranks``       ranks of the changes of the matrices above the rounding of their format, as in
                :mod:`idim.spectral`; None where the method does not merge
==============  =======================================================================================

``ranks`` has the ``sum`` (the rank of all changes as one block-diagonal matrix, None unless each is known), the
``median`` and ``max`` over the matrices that changed and whose rank is known (None without one), and how many
``matrices`` there are: ``low_rank``, ``full_rank``, ``unchanged`` and ``undetermined``.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from idim.methods import Attached, Method
from idim.methods.combined import AttachedTogether, Combined
from idim.methods.places import body_parameters, in_head
from idim.runs.learner import OF_HEAD
from idim.spectral.judgement.judge import judge
from idim.spectral.judgement.matrix_report import MatrixReport
from idim.spectral.pairing.pairs import open_pairs

State = dict[str, Tensor]


def body_state(model: nn.Module) -> State:
    """Return copies of the parameters and float buffers of a network but its head, each once, by name."""
    buffers = {n: b for n, b in model.named_buffers() if b.is_floating_point() and not in_head(n)}
    return {name: tensor.detach().clone() for name, tensor in {**body_parameters(model), **buffers}.items()}


def sizes(method: Method | None, learned: Attached) -> dict[str, Any]:
    """Return what can be said before the method is merged: numbers trained, added and stored.

    Args:
        method: what ``learned`` comes from; None for a run without a method.
        learned: the trained network.
    """
    trained = (p for n, p in learned.module.named_parameters() if p.requires_grad and not n.startswith(OF_HEAD))
    return {
        "trained": sum(parameter.numel() for parameter in trained),
        "added": 0 if method is None else _added(method, learned),
        "stored_bytes": _bytes(learned.stored().values()),
        "merges": method is None or method.merges,
        "through": method is None or method.through,
    }


def plain(method: Method | None, learned: Attached) -> nn.Module:
    """Return the network with all that merges merged, and the rest taken off."""
    if isinstance(method, Combined) and isinstance(learned, AttachedTogether):
        for part, attached in reversed(list(zip(method.parts, learned.parts, strict=True))):
            plain(part, attached)
        return learned.module
    return learned.merge() if method is None or method.merges else learned.detach()


def changes(base: Mapping[str, Tensor], network: nn.Module, *, merges: bool) -> dict[str, Any]:
    """Return what differs between a network's body and its :func:`body_state` before."""
    tuned = body_state(network)
    own = body_parameters(network).keys()
    differing = {name: int((tuned[name] != base[name]).sum()) for name in tuned}
    buffers = {name: tuned[name] for name in tuned if name not in own and differing[name]}
    return {
        "changed": sum(count for name, count in differing.items() if name in own),
        "buffers": sum(differing[name] for name in buffers),
        "buffer_bytes": _bytes(buffers.values()),
        "ranks": ranks({n: base[n] for n in own}, {n: tuned[n] for n in own}) if merges else None,
    }


def ranks(base: Mapping[str, Tensor], tuned: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the ranks of the changes of all matrices, in short."""
    pairs = open_pairs(base, tuned)
    reports = [r for name in pairs.names if isinstance(r := judge(pairs.load(name)), MatrixReport)]
    known = [r.rank for r in reports if r.rank is not None and r.verdict != "unchanged"]
    verdicts = [r.verdict for r in reports]
    return {
        "sum": None if "undetermined" in verdicts else sum(known),
        "median": statistics.median(known) if known else None,
        "max": max(known, default=None),
        "matrices": len(reports),
        **{v.replace("-", "_"): verdicts.count(v) for v in ("low-rank", "full-rank", "unchanged", "undetermined")},
    }


def _added(method: Method, learned: Attached) -> int:
    if isinstance(method, Combined) and isinstance(learned, AttachedTogether):
        return sum(_added(part, attached) for part, attached in zip(method.parts, learned.parts, strict=True))
    return 0 if method.merges else sum(tensor.numel() for tensor in learned.stored().values())


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
