"""What learned kinds have in common: a file known by its hash, over parameters known by their names and values."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from torch import Tensor

from idim.errors import RequestError
from idim.models.origin import file_digest, parted
from idim.parameters import digest
from idim.projections.base import Projection


@dataclass(frozen=True, kw_only=True)
class Form:
    """What the files of a learned kind say of themselves, as JSON in the metadata entry ``idim.KIND``.

    Args:
        kind: the kind.
        format: version of the description.
        fields: the types of its entries, by name, beside ``format``.
        maker: the command that writes such files, for messages.
    """

    kind: str
    format: int
    fields: Mapping[str, type]
    maker: str

    @property
    def key(self) -> str:
        """The metadata entry."""
        return f"idim.{self.kind}"

    def read(self, path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
        """Return the record of the file at ``path``.

        Raises:
            RequestError: when it has none, or one of another format.
        """
        if self.key not in metadata:
            raise RequestError(
                f"a {self.kind} has metadata {self.key!r}; received {path} without: {self.maker} writes one"
            )
        try:
            record = json.loads(metadata[self.key])
        except ValueError:
            record = None
        if not isinstance(record, dict) or record.get("format") != self.format:
            received = record.get("format") if isinstance(record, dict) else "none"
            raise RequestError(
                f"this idim reads a {self.kind} of format {self.format}; received {path} of format {received}"
            )
        for name, wanted in self.fields.items():
            if not isinstance(record.get(name), wanted):
                received = f"{record.get(name)!r} in {path}"
                raise RequestError(f"{name!r} of a {self.kind} must be a {wanted.__name__}; received {received}")
        return record


class LearnedFile(Protocol):
    """An open file of a learned kind."""

    @property
    def D(self) -> int:
        """Number of rows."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the parameters it is over."""

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of the parameters."""

    @property
    def base(self) -> str:
        """Hash of the values that the parameters start from; "" for any."""


@dataclass(frozen=True, kw_only=True)
class OfFile(Projection):
    """A learned kind.

    Args:
        path: the file.
        digest: its hash, 16 hex digits; found if not given, and checked if given.
        order: its parameters by number, in the order of the rows; () for the order of the file.

    Raises:
        RequestError: for a file that is not of the kind or has another hash, or another D than its own.
    """

    path: str = ""
    digest: str = ""
    order: tuple[int, ...] = ()

    learned: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "digest", checked_digest(self.kind, self.path, self.digest))
        if self.D != self.file.D:
            raise RequestError(
                f"a projection has as many rows as the model has parameters, D = {self.D}; received the {self.kind} "
                f"{self.path} of {self.file.D} rows: it was learned over others"
            )
        if self.order and sorted(self.order) != list(range(len(self.file.names))):
            raise RequestError(f"order must name each of {len(self.file.names)} tensors once; received {self.order}")

    @property
    @abstractmethod
    def file(self) -> LearnedFile:
        """The file as it was when it was opened."""

    @classmethod
    def parse(cls, option: str) -> dict[str, object]:
        """Read "KIND:FILE", or "KIND:FILE@HASH" of a file that must have this hash."""
        path, wanted = parted(option)
        return {"path": path, "digest": wanted}

    @classmethod
    def pin(cls, option: str) -> str:
        """Return ``FILE@HASH``."""
        path, wanted = parted(option)
        return f"{path}@{checked_digest(cls.kind, path, wanted)}"

    def fitted(self, tensors: Mapping[str, Tensor]) -> Self:
        """Return the same map with its rows in the order of these tensors.

        Names may differ by one common prefix.

        Raises:
            RequestError: when names or shapes are not those of the file, or it starts from other values.
        """
        names = self.file.names
        order = order_of(self.kind, self.path, names, self.file.shapes, tensors)
        named = {names[i]: tensor for i, tensor in zip(order, tensors.values(), strict=True)}
        check_base(self.kind, self.path, self.file.base, named)
        return dataclasses.replace(self, order=() if order == tuple(range(len(order))) else order)


def checked_digest(kind: str, path: str, wanted: str) -> str:
    """Return the hash of a file, 16 hex digits.

    Args:
        kind: what the file is.
        path: where it is.
        wanted: the hash that it must have; "" for any.

    Raises:
        RequestError: when there is no such file, or it has another hash.
    """
    if not os.path.isfile(path):
        hashed = f" with hash {wanted}" if wanted else ""
        raise RequestError(f"projection '{kind}:FILE' needs a {kind}{hashed}; received {path!r}: no such file")
    if (found := file_digest(Path(path))) != wanted and wanted:
        raise RequestError(f"the {kind} {path} must have the hash {wanted}; received {found}")
    return found


def order_of(
    kind: str, path: str, names: Sequence[str], shapes: Sequence[tuple[int, ...]], tensors: Mapping[str, Tensor]
) -> tuple[int, ...]:
    """Return the numbers of a file's parameters in the order of a model's; names may differ by one common prefix.

    Raises:
        RequestError: when they are not the same parameters.
    """
    mine = {name: number for number, name in enumerate(bare(names))}
    theirs = dict(zip(bare(list(tensors)), tensors.values(), strict=True))
    if odd := sorted(mine.keys() ^ theirs.keys()):
        whose = f"the {kind}" if odd[0] in mine else "the model"
        raise RequestError(
            f"a {kind} must be over the parameters of the model inside the subspace; received {path}, where "
            f"{len(odd)} differ, such as {odd[0]!r}, only in {whose}"
        )
    for name, number in mine.items():
        if tuple(theirs[name].shape) != shapes[number]:
            raise RequestError(
                f"tensor {names[number]!r} must have shape {list(shapes[number])}, as in the {kind} "
                f"{path}; received {list(theirs[name].shape)}"
            )
    return tuple(mine[name] for name in theirs)


def check_base(kind: str, path: str, wanted: str, tensors: Mapping[str, Tensor]) -> None:
    """Refuse parameters at other values than those a file was learned from.

    Args:
        kind: what the file is.
        path: where it is.
        wanted: hash of the values; "" for any.
        tensors: the parameters under the file's names.

    Raises:
        RequestError: with both hashes.
    """
    if wanted and (found := digest(tensors)) != wanted:
        raise RequestError(
            f"the model must be at the parameters that the {kind} {path} starts from, with hash {wanted}; "
            f"received {found}: take the same model and seed, or learn it to fit any"
        )


def bare(names: Sequence[str]) -> list[str]:
    """Return the names without the modules that begin all of them.

    >>> bare(["body.a.weight", "body.a.bias"]), bare(["body.a.weight", "body.b.bias"])
    (['weight', 'bias'], ['a.weight', 'b.bias'])
    """
    modules = [name.split(".")[:-1] for name in names]
    shared = len(list(itertools.takewhile(lambda level: len(set(level)) == 1, zip(*modules, strict=False))))
    return [".".join(name.split(".")[shared:]) for name in names]
