"""Networks by name, or by path.

``mlp:200,200`` (hidden widths; ``mlp`` alone is that one), ``lenet``, ``linear``;
``FILE.py:FUNCTION``, a user's own (:mod:`idim.models.user`);
pretrained ones under a fresh head: ``minilm``, ``smollm2``, a folder or a hub name (:mod:`idim.models.pretrained`)
for texts, ``resnet20`` to ``resnet56`` (:mod:`idim.models.resnet`) for images; ``scratch:NAME``, the
architecture of a pretrained one with weights drawn from the seed; ``start:FILE:NAME`` and ``head:FILE:NAME``, any of
them at the parameters of a file (:mod:`idim.models.started`); and ``with:METHOD:NAME``, one whose own parameters are
frozen, and which trains what a method has added (:mod:`idim.models.tuned_by`).
"""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor, nn

from idim.errors import RequestError, unknown
from idim.models import pretrained, resnet, started, tuned_by, user
from idim.models.init import generator, he_normal
from idim.models.lenet import lenet
from idim.models.linear import linear
from idim.models.mlp import mlp

__all__ = ["HEAD", "MODELS", "build", "encode", "has_head", "is_pretrained", "reads_texts", "resolve"]

MODELS = ("lenet", "linear", "mlp")
KNOWN = (*MODELS, *pretrained.PACKAGES, *(f"resnet{depth}" for depth in resnet.DEPTHS))
SCRATCH = "scratch:"
HEAD = "head"
"""Name of the fresh last layer in every pretrained network."""
WIDTHS = "200,200"
WIDTH = re.compile("[1-9][0-9]{0,5}")


def build(
    name: str,
    *,
    input_shape: tuple[int, ...],
    outputs: int,
    seed: int,
    dropout: bool = False,
    weights: Path | None = None,
    next_token: bool = False,
) -> nn.Module:
    """Return a float32 network on the CPU, what is fresh in it drawn from the stream "init" of ``seed``.

    Args:
        name: such as ``"mlp:200,200"``, ``"minilm"`` or ``"net.py:build"`` (see the module).
        input_shape: shape of one row, without the batch; () for texts.
        outputs: number of values it returns for a row.
        seed: any integer; the same seed gives the same weights.
        dropout: keep the dropout rates of a language model's configuration.
        weights: the folder of pretrained networks, for ``resnet20`` and its like.
        next_token: a decoder with its own output layer (:mod:`idim.models.next_token`), not a fresh head.

    Raises:
        RequestError: for an unknown name, a wrong argument, or inputs that the network cannot take.
    """
    if tuned_by.knows(name):
        raise RequestError(
            f"a network {tuned_by.FORM!r} must be the outermost, and is trained as it is; received {name!r} where the "
            "network itself belongs"
        )
    if started.knows(name):
        options = {"dropout": dropout, "weights": weights, "next_token": next_token}
        inner = started.inside(name)
        return started.fill(build(inner, input_shape=input_shape, outputs=outputs, seed=seed, **options), name)  # type: ignore[arg-type]
    _check_inputs(name, input_shape)
    if user.is_path(name):
        return user.build(name, input_shape, outputs, generator(seed, "init"))
    bare, scratch = name.removeprefix(SCRATCH), name.startswith(SCRATCH)
    if next_token:
        return pretrained.build_next_token(bare, seed=seed, scratch=scratch, dropout=dropout)
    if reads_texts(name):
        return pretrained.build(bare, outputs=outputs, seed=seed, scratch=scratch, dropout=dropout)
    if resnet.knows(bare):
        file = None if scratch else resnet.file_of(bare, weights)
        return resnet.build(bare, file, input_shape, outputs, generator(seed, "init"))
    return _small(name, input_shape, outputs, seed)


def encode(name: str, first: tuple[str, ...], second: tuple[str, ...] | None, length: int) -> Tensor:
    """Return texts, or pairs of texts, as the tokens [n, longest, 2] that a language model takes.

    Raises:
        RequestError: when the tokenizer cannot be had or does not fit.
    """
    return pretrained.encode(_bare(name).removeprefix(SCRATCH), first, second, length)


def resolve(name: str) -> str:
    """Return the name under which a model's runs are kept: itself, or with the hash of what it stands for.

    Raises:
        RequestError: when a file or folder is missing, or has changed since the name got its hash.
    """
    if tuned_by.knows(name):
        return tuned_by.prefix(name) + resolve(tuned_by.inside(name))
    if started.knows(name):
        return started.pin(name) + resolve(started.inside(name))
    bare, prefix = name.removeprefix(SCRATCH), SCRATCH if name.startswith(SCRATCH) else ""
    if user.is_path(name):
        return user.pin(name)
    if resnet.knows(bare):
        return prefix + resnet.pin(bare)
    return prefix + pretrained.pin(bare) if reads_texts(name) else name


def reads_texts(name: str) -> bool:
    """Whether a model takes texts rather than numbers."""
    name = _bare(name)
    bare = name.removeprefix(SCRATCH)
    number_nets = user.is_path(name) or resnet.knows(bare) or bare.partition(":")[0] in MODELS
    return not number_nets and pretrained.knows(bare)


def is_pretrained(name: str) -> bool:
    """Whether training starts from weights that were trained before."""
    name = tuned_by.inside(name) if tuned_by.knows(name) else name
    return started.knows(name) or (not name.startswith(SCRATCH) and (resnet.knows(name) or reads_texts(name)))


def has_head(model: nn.Module) -> bool:
    """Whether a network has a last layer of its own for the task, a module named :data:`HEAD`."""
    return isinstance(getattr(model, HEAD, None), nn.Module)


def _bare(name: str) -> str:
    """Return the name of the network itself, without what is said of its start or a method on it."""
    return started.model_of(tuned_by.inside(name) if tuned_by.knows(name) else name)


def _check_inputs(name: str, input_shape: tuple[int, ...]) -> None:
    if reads_texts(name) and input_shape:
        raise RequestError(f"model {name!r} takes texts; received rows of shape {list(input_shape)}: give mlp or lenet")
    if not reads_texts(name) and not input_shape:
        bare = name.removeprefix(SCRATCH)
        if not (user.is_path(name) or resnet.knows(bare) or bare.partition(":")[0] in MODELS):
            raise unknown("model", bare, KNOWN)
        raise RequestError(f"model {name!r} takes numbers; received texts: give minilm, a folder or a hub name")


def _small(name: str, input_shape: tuple[int, ...], outputs: int, seed: int) -> nn.Module:
    kind, _, argument = name.partition(":")
    if kind not in MODELS:
        raise unknown("model", kind if kind != "scratch" else argument, KNOWN)
    if argument and kind != "mlp":
        raise RequestError(f"model {kind!r} takes no argument; received {name!r}")
    if kind == "linear":
        return linear(input_shape, outputs)
    try:
        bare = lenet(input_shape, outputs) if kind == "lenet" else mlp(input_shape, outputs, _widths(name, argument))
    except RuntimeError as error:  # torch's way to say that memory is short
        raise RequestError(f"model {name!r} must fit into memory; received: {str(error).splitlines()[0]}") from error
    return he_normal(bare, generator(seed, "init"))


def _widths(name: str, argument: str) -> tuple[int, ...]:
    words = (argument or WIDTHS).split(",")
    if not all(WIDTH.fullmatch(word) for word in words) or name == "mlp:":
        raise RequestError(f"model 'mlp:W1,W2,...' needs widths from 1 to 999999; received {name!r}")
    return tuple(int(word) for word in words)
