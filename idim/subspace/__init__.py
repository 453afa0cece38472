"""theta = theta0 + P z around any torch module (:class:`Subspace`)."""

from idim.subspace.module import Subspace

__all__ = ["Subspace"]
