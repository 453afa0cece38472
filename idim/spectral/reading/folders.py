"""Which files of a folder hold a model's tensors: one file, or shards with their index.

Where a folder has safetensors, pickles in it are ignored. Nothing but tensors and JSON is read: a
repository's own code never runs, whatever its configuration asks for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from idim.errors import RequestError
from idim.spectral.reading import pickles
from idim.spectral.reading.sources import Skipped, Source
from idim.spectral.reading.tensors import Safetensors

WHOLE = ("model.safetensors", "pytorch_model.bin")
SHARD = re.compile(r"^(?P<stem>.*)-\d{5}-of-(?P<count>\d{5})\.\w+$")
LARGEST_JSON = 50_000_000


def open_files(path: Path, place: str, *, pickle: bool) -> Source:
    """Return the tensors of a file, or of the model in a folder.

    Raises:
        RequestError: when there is no model, more than one, a missing shard, or a pickle without ``pickle``.
    """
    source = _one(path, place, pickle) if path.is_file() else _model(path, place, pickle)
    if not source.entries:
        raise RequestError(f"a model must have tensors; received {place}, which has none")
    source.notes = remote_code(path if path.is_dir() else path.parent)
    return source


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file.

    Raises:
        RequestError: when the file cannot be read, or holds something else.
    """
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise RequestError(f"{path.name} must have at most {LARGEST_JSON} bytes; received {path.stat().st_size}")
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"{path.name} must be readable JSON; received {path}: {error}") from error
    if not isinstance(content, dict):
        raise RequestError(f"{path.name} must hold a JSON object; received {path}, a {type(content).__name__}")
    return content


def remote_code(folder: Path) -> tuple[Skipped, ...]:
    """Return the note for a repository whose configuration asks for code of its own."""
    config = folder / "config.json"
    if not config.is_file() or not read_json(config).get("auto_map"):
        return ()
    reason = "asks for code of the repository (auto_map), which is never run: only the tensors are read"
    return (Skipped(name="config.json", reason=reason),)


def _one(path: Path, place: str, pickle: bool) -> Source:
    if path.name.endswith(".index.json"):
        return _sharded(path, place, pickle)
    return _opened([path], place, pickle)


def _model(folder: Path, place: str, pickle: bool) -> Source:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    tensors = [path for path in files if path.suffix == ".safetensors"]
    pickled = [path for path in files if path.suffix in pickles.SUFFIXES and path.name != "training_args.bin"]
    for some, kind in ((tensors, ".safetensors"), (pickled, "")):
        indices = [path for path in files if path.name.endswith(f"{kind or '.bin'}.index.json")]
        if some or indices:
            if len(indices) == 1:
                return _sharded(indices[0], place, pickle)
            return _opened(_chosen(folder, some, indices), place, pickle)
    raise RequestError(f"a model is a folder with safetensors files; received {place}, which has none")


def _chosen(folder: Path, files: list[Path], indices: list[Path]) -> list[Path]:
    """Return the files of the one model that a folder holds."""
    if whole := [path for path in files if path.name in WHOLE]:
        return whole[:1]
    if len(files) == 1 and not SHARD.match(files[0].name):
        return files
    parts = [found for path in files if (found := SHARD.match(path.name))]
    if len(parts) == len(files) and len({(part["stem"], part["count"]) for part in parts}) == 1:
        if len(parts) != int(parts[0]["count"]):
            raise RequestError(f"all {int(parts[0]['count'])} shards must be there; received {len(parts)} in {folder}")
        return files
    names = ", ".join(path.name for path in (*indices, *files)[:5])
    raise RequestError(f"a folder must hold one model; received {folder} with {names}: name the file")


def _sharded(index: Path, place: str, pickle: bool) -> Source:
    """Return the tensors that an index names, each shard there and in its folder."""
    table = read_json(index).get("weight_map")
    if not isinstance(table, dict) or not table or not all(isinstance(name, str) for name in table.values()):
        raise RequestError(f"an index must map tensors to files in weight_map; received {index}, which does not")
    shards = sorted(set(table.values()))
    for name in shards:
        if Path(name).name != name or not (index.parent / name).is_file():
            raise RequestError(
                f"every shard of {index.name} must be in its folder; missing: {name!r} in {index.parent}"
            )
    source = _opened([index.parent / name for name in shards], place, pickle)
    if missing := sorted(set(table) - set(source.entries)):
        raise RequestError(
            f"the shards must have what {index} names; missing: {missing[0]!r} and {len(missing) - 1} more"
        )
    return source


def _opened(files: Sequence[Path], place: str, pickle: bool) -> Source:
    kinds = {file.suffix for file in files}
    if kinds == {".safetensors"}:
        return Safetensors(files, place)
    if not kinds <= set(pickles.SUFFIXES):
        raise RequestError(f"a model file ends in .safetensors; received {files[0]}")
    if not pickle:
        raise pickles.refuse(files[0])
    return pickles.Pickled(files, place)
