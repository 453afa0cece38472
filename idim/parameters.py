r"""Tensors of a model, chosen by name and laid end to end.

A model is a dict of named tensors; a subspace sees one vector :math:`\theta \in \mathbb{R}^D`. A
:class:`Layout` is the bridge: tensor :math:`i` owns rows :math:`[o_i, o_i + n_i)` of the vector,
in the order in which the model names its parameters.

A tensor that a model uses under several names (tied weights) is one tensor here: it owns its rows
once, under the first of its names, and a pattern that matches any of its names matches it.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property

import torch
from torch import Tensor, nn

from idim.errors import RequestError

Patterns = str | Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where named tensors lie in one vector of D numbers: tensor i at rows ``offsets[i]:offsets[i + 1]``.

    Args:
        names: one name a tensor, in the order of the rows.
        shapes: the shape of each tensor.
        dtypes: the dtype of each tensor.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[torch.dtype, ...]

    @classmethod
    def of(cls, source: nn.Module | Mapping[str, Tensor]) -> Layout:
        """Return the layout of named tensors, in their order, or of all that can move in a model."""
        tensors = choose(source).inside if isinstance(source, nn.Module) else source
        return cls(
            names=tuple(tensors),
            shapes=tuple(tuple(t.shape) for t in tensors.values()),
            dtypes=tuple(t.dtype for t in tensors.values()),
        )

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Number of rows of each tensor."""
        return tuple(torch.Size(shape).numel() for shape in self.shapes)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """First row of each tensor, and D at the end."""
        return (0, *itertools.accumulate(self.sizes))

    @property
    def D(self) -> int:
        """Number of rows: native parameters, tied ones counted once."""
        return self.offsets[-1]

    @cached_property
    def layers(self) -> tuple[int, ...]:
        """Number of rows of each layer, for one scale a layer (see :func:`layer_of`)."""
        named = zip(self.names, self.sizes, strict=True)
        runs = itertools.groupby(named, key=lambda item: layer_of(item[0]))
        return tuple(rows for _, run in runs if (rows := sum(size for _, size in run)))

    @cached_property
    def runs(self) -> tuple[range, ...]:
        """Consecutive tensors of one dtype: each run can be one flat tensor."""
        grouped = itertools.groupby(range(len(self.names)), key=self.dtypes.__getitem__)
        return tuple(range(members[0], members[-1] + 1) for members in (list(run) for _, run in grouped))

    def flatten(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Return the tensors end to end, D numbers: one flat tensor a dtype run, which is nearly always one.

        Raises:
            RequestError: when a tensor is missing or has another shape.
        """
        return tuple(torch.cat([self._checked(tensors, i).detach().reshape(-1) for i in run]) for run in self.runs)

    def unflatten(self, flats: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return views of the flat tensors of :meth:`flatten`, by name and in shape.

        Raises:
            RequestError: when their sizes are not those of the layout.
        """
        wanted = [self.offsets[run.stop] - self.offsets[run.start] for run in self.runs]
        if (received := [flat.numel() for flat in flats]) != wanted:
            raise RequestError(f"flat tensors must have sizes {wanted}; received {received}")
        pieces = itertools.chain.from_iterable(
            torch.split(flat, list(self.sizes[run.start : run.stop]))
            for run, flat in zip(self.runs, flats, strict=True)
        )
        return {n: piece.view(shape) for n, piece, shape in zip(self.names, pieces, self.shapes, strict=True)}

    def _checked(self, tensors: Mapping[str, Tensor], index: int) -> Tensor:
        name, shape = self.names[index], self.shapes[index]
        if name not in tensors:
            raise RequestError(f"tensor {name!r} of shape {list(shape)} is missing among {len(tensors)} received")
        if tuple(tensors[name].shape) != shape:
            raise RequestError(f"tensor {name!r} must have shape {list(shape)}; received {list(tensors[name].shape)}")
        return tensors[name]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The parameters of a model, each once: inside the subspace, trained directly, or frozen.

    ``aliases`` gives all names of each tensor, the first one included.
    """

    inside: dict[str, nn.Parameter]
    trained: dict[str, nn.Parameter]
    frozen: dict[str, nn.Parameter]
    aliases: dict[str, tuple[str, ...]]


def choose(model: nn.Module, *, include: Patterns = "*", exclude: Patterns = (), train: Patterns = ()) -> Selection:
    """Sort the parameters of ``model`` by name patterns, as in a shell: ``*``, ``?``, ``[abc]``.

    ``train`` wins over ``exclude`` and that over ``include``. A tensor that the model has frozen
    (``requires_grad`` false), that is not float or that is empty stays frozen, unless ``train`` names it.

    Raises:
        RequestError: for a pattern that matches no parameter, or when nothing is left inside.
    """
    aliases = names_of(model)
    parameters = {names[0]: model.get_parameter(names[0]) for names in aliases}
    included, excluded, direct = (
        _matching(word, patterns, aliases)
        for word, patterns in (("include", include), ("exclude", exclude), ("train", train))
    )
    inside, trained, frozen = {}, {}, {}
    for name, parameter in parameters.items():
        if name in direct:
            trained[name] = parameter
        elif name in included - excluded and _movable(parameter):
            inside[name] = parameter
        else:
            frozen[name] = parameter
    if not inside:
        raise RequestError(
            "the subspace needs at least one float parameter that requires a gradient; received "
            f"{len(parameters)} parameters, {len(trained)} trained directly and {len(frozen)} frozen"
        )
    return Selection(inside=inside, trained=trained, frozen=frozen, aliases={names[0]: names for names in aliases})


def _movable(parameter: nn.Parameter) -> bool:
    return parameter.requires_grad and parameter.is_floating_point() and parameter.numel() > 0


def names_of(model: nn.Module) -> list[tuple[str, ...]]:
    """Return the names of every parameter of ``model``: one tuple a tensor, several names where it is tied."""
    names: dict[nn.Parameter, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    return [tuple(group) for group in names.values()]


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the BLAKE2b hash (32 hex digits) of named tensors: names, dtypes, shapes and bytes."""
    total = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        total.update(f"{name} {tensor.dtype} {list(tensor.shape)};".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def layer_of(name: str) -> str:
    """Return the layer of a parameter: its module up to the last number, else its whole module.

    >>> layer_of("encoder.layer.3.output.dense.weight"), layer_of("pooler.dense.bias")
    ('encoder.layer.3', 'pooler.dense')
    """
    module = name.split(".")[:-1]
    numbered = [i for i, part in enumerate(module) if part.isdigit()]
    return ".".join(module[: numbered[-1] + 1] if numbered else module)


def _matching(word: str, patterns: Patterns, aliases: Iterable[tuple[str, ...]]) -> set[str]:
    """Return the first name of every tensor that a pattern matches; every pattern must match one."""
    groups = list(aliases)
    matched: set[str] = set()
    for pattern in (patterns,) if isinstance(patterns, str) else patterns:
        hits = {names[0] for names in groups if any(fnmatchcase(name, pattern) for name in names)}
        if not hits:
            raise _no_match(word, pattern, [name for names in groups for name in names])
        matched |= hits
    return matched


def _no_match(word: str, pattern: str, names: list[str]) -> RequestError:
    near = difflib.get_close_matches(pattern.replace("*", ""), names, n=3, cutoff=0.4) or names[:3]
    hint = f"; near names: {', '.join(near)}" if near else ""
    return RequestError(f"{word} pattern {pattern!r} matches none of {len(names)} parameter names{hint}")
