"""Projections P: R^d -> R^D, one kind a file, one contract (:mod:`idim.projections.base`)."""

from idim.projections.base import Projection, Rows
from idim.projections.base import from_spec as _from_spec

KINDS: dict[str, type[Projection]] = {}

__all__ = ["KINDS", "Projection", "Rows"]
