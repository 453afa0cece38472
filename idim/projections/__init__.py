"""Projections P: R^d -> R^D, one kind a file, one contract (:mod:`idim.projections.base`)."""

from collections.abc import Mapping

from idim.errors import unknown as _unknown
from idim.projections.base import Projection, Rows
from idim.projections.basis import Basis
from idim.projections.decoder import Decoder
from idim.projections.dense import Dense
from idim.projections.fastfood import Fastfood
from idim.projections.hadamard import Hadamard
from idim.projections.kronecker import Kronecker
from idim.projections.layerwise import Layerwise
from idim.projections.selector import Selector
from idim.projections.sparse import Sparse
from idim.projections.specs import from_spec as _from_spec
from idim.projections.uniform import Uniform

KINDS: dict[str, type[Projection]] = {
    cls.kind: cls
    for cls in (Hadamard, Fastfood, Dense, Sparse, Uniform, Kronecker, Selector, Layerwise, Basis, Decoder)
}


def least_d(name: str, *, layers: tuple[int, ...] = ()) -> int:
    """Return the smallest d that the projection ``name`` can have over these layers.

    Raises:
        RequestError: for an unknown kind.
    """
    return _kind(name.partition(":")[0]).least_d(layers)


def most_d(name: str, *, D: int, layers: tuple[int, ...] = ()) -> int:
    """Return the largest d that the projection ``name`` can have over D parameters in these layers.

    Raises:
        RequestError: for an unknown kind, or a file that it cannot read.
    """
    kind, _, option = name.partition(":")
    return _kind(kind).most_d(option, D=D, layers=layers)


def resolve(name: str) -> str:
    """Return the name under which runs with a projection are kept: itself, or with the hash of its file.

    Raises:
        RequestError: for an unknown kind, or when the file is missing or has another hash than the name says.
    """
    kind, colon, option = name.partition(":")
    return kind + colon + _kind(kind).pin(option)


def create(name: str, *, D: int, d: int, seed: int, layers: tuple[int, ...] = ()) -> Projection:
    """Return the projection that ``name`` names: "kind" or "kind:option", for example "dense:gaussian".

    Args:
        name: a key of ``KINDS``, with an option where the kind's ``parse`` knows one.
        D: number of native parameters.
        d: number of subspace coordinates.
        seed: names the map among those of its kind.
        layers: number of rows of each consecutive layer, summing to D; for kinds with ``layered`` only.

    Raises:
        RequestError: for an unknown kind or option, or when d, D or layers are out of range.
    """
    kind, _, option = name.partition(":")
    cls = _kind(kind)
    options = cls.parse(option) if option else {}
    if cls.layered:
        options["layers"] = layers
    return cls(D=D, d=d, seed=seed, **options)


def _kind(name: str) -> type[Projection]:
    if name not in KINDS:
        raise _unknown("projection", name, KINDS)
    return KINDS[name]


def load(spec: Mapping[str, object]) -> Projection:
    """Return the projection of a stored ``spec``.

    Raises:
        RequestError: for an unknown kind, or another version of it than this code makes.
    """
    return _from_spec(spec, KINDS)


__all__ = [
    "KINDS",
    "Basis",
    "Decoder",
    "Dense",
    "Fastfood",
    "Hadamard",
    "Kronecker",
    "Layerwise",
    "Projection",
    "Rows",
    "Selector",
    "Sparse",
    "Uniform",
    "create",
    "least_d",
    "load",
    "most_d",
    "resolve",
]
