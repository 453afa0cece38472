"""Short names of models whose weights are inside installed packages."""

from __future__ import annotations

from pathlib import Path

from idim.models.origin import PACKAGES, origin_of


def packaged(name: str) -> Path | None:
    """Return the folder of a model that a package carries as safetensors, None for another name.

    Raises:
        RequestError: when the package is not installed, or carries other weights than are known.
    """
    origin = origin_of(name) if name in PACKAGES else None
    return None if origin is None or origin.gguf else Path(origin.place)
