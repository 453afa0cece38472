"""Projections from their stored specs."""

from __future__ import annotations

from collections.abc import Mapping

from idim.errors import RequestError, unknown
from idim.projections.base import Projection


def from_spec(spec: Mapping[str, object], kinds: Mapping[str, type[Projection]]) -> Projection:
    """Build a projection from its ``spec``, refusing a version that this code would not reproduce.

    Raises:
        RequestError: for an unknown kind, another version of it, or fields that are not its own.
    """
    kind = str(spec.get("kind"))
    if kind not in kinds:
        raise unknown("projection", kind, kinds)
    cls = kinds[kind]
    if spec.get("version") != cls.version:
        received = spec.get("version")
        raise RequestError(f"this idim makes version {cls.version} of {kind!r}; received a spec of version {received}")
    options = {k: _tupled(v) for k, v in spec.items() if k not in ("kind", "version")}
    try:
        return cls(**options)  # type: ignore[arg-type]
    except TypeError as error:
        raise RequestError(f"a spec of {kind!r} must hold its fields; received {sorted(options)}: {error}") from error


def _tupled(value: object) -> object:
    return tuple(_tupled(v) for v in value) if isinstance(value, list) else value
