"""Models of the Hugging Face hub by name: from the local cache, else downloaded; tensors and JSON only."""

from __future__ import annotations

import re
from pathlib import Path

from idim.errors import RequestError

NAME = re.compile(r"[\w.-]+(/[\w.-]+)?(@[\w./-]+)?")
TENSORS = ("*.safetensors", "*.safetensors.index.json", "config.json", "adapter_config.json")
PICKLES = ("*.bin", "*.bin.index.json")


def looks_like_name(place: str) -> bool:
    """Say whether ``place`` can be ``org/name`` or ``name``, with ``@revision`` or without."""
    return NAME.fullmatch(place) is not None and not place.startswith(".")


def fetch(name: str, *, pickle: bool = False) -> Path:
    """Return the folder of ``org/name`` or ``org/name@revision`` in the local cache, downloaded if it is not there.

    Raises:
        RequestError: without huggingface_hub, without a connection, or for a name that the hub does not know.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise RequestError(f"a hub name needs huggingface_hub (idim-toolkit[hf]); received {name!r}") from error
    repository, _, revision = name.partition("@")
    patterns = [*TENSORS, *(PICKLES if pickle else ())]
    try:
        folder = huggingface_hub.snapshot_download(
            repository, revision=revision or None, allow_patterns=patterns, ignore_patterns=["*/*"]
        )
    except Exception as error:  # the hub's client raises its own, the network's and the disk's
        reason = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0].split('. ')[0]}"
        raise RequestError(
            f"a model must be a file, a folder or a name that the hub gives; received {name!r}: no such path here, and "
            f"from the hub {reason}: pass a folder"
        ) from error
    return Path(folder)
