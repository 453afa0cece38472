"""A run as a value: what is trained, on what, how, from which seed.

A spec is the whole input of :func:`idim.runs.run`, so the hash of its content names the result.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from idim.errors import RequestError, unknown
from idim.models import tuned_by
from idim.tasks import recipe as recipes
from idim.tasks.recipe import Recipe

RUN_VERSION = 1
"""Part of every key. Raise it when a spec would give other numbers than before: a change of training,
initialisation, data order, scoring or splitting, or of the version of a projection kind."""

PLAIN = ("full", "subspace", "untuned")
"""What is trained without a method of :mod:`idim.methods` on the network."""

LEARNED = re.compile("(basis|decoder):.*@([0-9a-f]{16})$", re.DOTALL)
"""A learned projection: its kind, where its file is, and the hash of it."""

STARTED = re.compile("(^|:)(start|head):.+?[.]safetensors@([0-9a-f]{16})(?=:)", re.DOTALL)
"""A network that starts from a file: where that is, and the hash of it."""

Head = Literal["inside", "trained", "frozen"]

PLACED = re.compile("^(few:[0-9]+:)?(idx|csv|lm:csv|lm:txt):.*", re.DOTALL)
"""A task that is named by the place of its files."""

LATER = ("head", "head_lr", "evaluations", "anatomy")
"""Fields that came after runs had been stored: left out of the plain data where they are at their default,
so that the keys of earlier runs stay what they are."""


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One training: same spec, same numbers, on one thread, on any engine.

    Args:
        task, fingerprint: the task's name, and the hash of its data that the result belongs to.
        model: the network's name.
        method: ``full`` trains all D parameters, ``subspace`` trains d coordinates of theta0 + P z, ``untuned`` scores
            the network as it comes, and any other name is that of :func:`idim.methods.parse`; it is kept in its
            shortest form.
        projection, d: the kind of P and the number of coordinates; both None unless the method is ``subspace``.
        lr: learning rate, at the first step.
        recipe: optimizer, schedule, batches, steps.
        seed: initialisation, P and data order derive from it.
        head: the network's fresh last layer moves with the rest (``inside``), is trained directly beside the
            coordinates, or stays ``frozen``.
            Methods of :mod:`idim.methods` leave the head alone: with them ``inside`` trains it directly too.
        head_lr: learning rate of a head that is trained directly, or in full training; None: ``lr``.
        evaluations: how often the network is scored along the way, on a few rows of the selection split; it changes
            no number of the training.
        anatomy: look at what the training has changed: how many numbers, of what rank, how many bytes to store.

    Raises:
        RequestError: for a value out of range, or a projection that does not go with the method.
    """

    task: str
    fingerprint: str
    model: str
    method: str
    projection: str | None = None
    d: int | None = None
    lr: float
    recipe: Recipe
    seed: int
    head: Head = "inside"
    head_lr: float | None = None
    evaluations: int = 0
    anatomy: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "method", _shortest(self.method))
        if self.head not in get_args(Head):
            raise unknown("head", self.head, get_args(Head))
        given = (self.projection is not None, self.d is not None)
        if given != (self.method == "subspace",) * 2:
            neither = "" if self.method == "subspace" else f", method {self.method!r} takes neither"
            raise RequestError(
                f"method 'subspace' takes a projection and d{neither}; "
                f"received {self.method!r} with projection {self.projection!r}, d {self.d}"
            )
        self._check_learned(self.projection or "")
        if tuned_by.knows(self.model) and self.method not in PLAIN:
            raise RequestError(
                f"a network with a method on it trains what that has added, in full or in a subspace; received "
                f"{self.model!r} with method {self.method!r}: name the network itself"
            )
        if self.d is not None and self.d < 1:
            raise RequestError(f"d must be at least 1; received d = {self.d}")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise RequestError(f"lr must be finite and above 0; received {self.lr}")
        if self.head_lr is not None:
            if self.head != "trained":
                raise RequestError(f"head_lr needs head 'trained'; received {self.head_lr:g} with head {self.head!r}")
            if not (math.isfinite(self.head_lr) and self.head_lr > 0):
                raise RequestError(f"head_lr must be finite and above 0; received {self.head_lr}")
        self._check_evaluations()
        self._plain()

    def _check_learned(self, projection: str) -> None:
        kind = next((kind for kind in ("basis", "decoder") if f"{kind}:" in projection), None)
        if kind is not None and not LEARNED.search(projection):
            raise RequestError(
                f"a run names a {kind} by its hash, {kind}:FILE@HASH; received {projection!r}: "
                "idim.projections.resolve adds it"
            )

    def _check_evaluations(self) -> None:
        if not 0 <= self.evaluations <= self.recipe.steps:
            raise RequestError(
                f"evaluations must be from 0 to the number of steps, {self.recipe.steps}; received {self.evaluations}"
            )
        if self.evaluations and self.recipe.optimizer == "lbfgs":
            raise RequestError(f"evaluations need an optimizer of single steps; received {self.evaluations} with lbfgs")

    def _plain(self) -> None:
        """Make numbers plain ones (1 and 1.0, NumPy and Python), so that equal specs have equal keys."""
        object.__setattr__(self, "lr", float(self.lr))
        object.__setattr__(self, "seed", operator.index(self.seed))
        object.__setattr__(self, "evaluations", operator.index(self.evaluations))
        object.__setattr__(self, "anatomy", bool(self.anatomy))
        object.__setattr__(self, "head_lr", None if self.head_lr is None else float(self.head_lr))
        object.__setattr__(self, "d", None if self.d is None else operator.index(self.d))

    @functools.cached_property
    def key(self) -> str:
        """SHA-256 of the canonical content and RUN_VERSION: 64 hex digits.

        Where an idx folder, a table, a text, a basis or a start lies is left out: their hashes name their content.
        """
        content = self.to_json() | {"run_version": RUN_VERSION}
        content["task"] = PLACED.sub(r"\1\2", self.task)
        content["model"] = STARTED.sub(r"\1\2:@\3", self.model)
        content["projection"] = self.projection and LEARNED.sub(r"\1:@\2", self.projection)
        return hashlib.sha256(canonical(content).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return the spec as plain data; :meth:`from_json` is the inverse."""
        return _trimmed(self, LATER) | {"recipe": _trimmed(self.recipe, recipes.LATER)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> RunSpec:
        """Return the spec of plain data.

        Raises:
            RequestError: for a missing or an unknown field.
        """
        fields = {**content, "recipe": _construct(Recipe, content.get("recipe", {}))}
        spec: RunSpec = _construct(cls, fields)
        return spec


@functools.lru_cache(maxsize=1024)
def _shortest(method: str) -> str:
    """Return the shortest name of a method; the table of methods is read only for names that are in it."""
    if method in PLAIN:
        return method
    from idim import methods

    if method.isidentifier() and method not in methods.METHODS:
        raise unknown("method", method, (*PLAIN, *methods.METHODS))
    return methods.canonical(method)


def canonical(content: object) -> str:
    """Return JSON with sorted keys and no spaces; floats as their shortest exact form, no NaN."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _trimmed(value: Any, later: tuple[str, ...]) -> dict[str, Any]:
    """Return a dataclass as plain data, without the later fields that are at their default."""
    defaults = {field.name: field.default for field in dataclasses.fields(value) if field.name in later}
    content = dataclasses.asdict(value)
    return {name: v for name, v in content.items() if name not in defaults or v != defaults[name]}


def _construct(cls: type[Any], content: Mapping[str, Any]) -> Any:
    known = {field.name for field in dataclasses.fields(cls)}
    for name in content:
        if name not in known:
            raise unknown(f"field of {cls.__name__}", name, known)
    try:
        return cls(**content)
    except TypeError as error:
        raise RequestError(f"{cls.__name__} is incomplete: {error}") from error
