"""A trained subspace on disk: kilobytes of tensors, a page of JSON, and a hash of what they stand on.

``subspace.json`` names the tensor file beside it, and is written last and renamed into place. A
reader therefore sees one whole state, the old or the new, whatever stops the writer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from idim.errors import RequestError
from idim.files import replace_file, writable_folder, write_json
from idim.parameters import digest as digest

FORMAT = "idim.subspace"
VERSION = 1  # raised when an older reader would misunderstand the file
RECORD = "subspace.json"
FIELDS = {"projection": dict, "include": list, "exclude": list, "train": list, "base": str, "tensors": str}


def write(folder: Path, record: Mapping[str, object], tensors: Mapping[str, Tensor]) -> None:
    """Write a record and its tensors into ``folder``, replacing what an earlier call wrote there.

    Raises:
        RequestError: when the folder is not writable.
    """
    writable_folder(folder)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    file = folder / f"subspace-{digest(plain)}.safetensors"
    with replace_file(file) as temporary:
        safetensors.torch.save_file(plain, temporary)
    write_json(folder / RECORD, {"format": FORMAT, "version": VERSION, **record, "tensors": file.name})
    for old in folder.glob("subspace-*.safetensors"):
        if old != file:
            old.unlink()


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the record and the tensors that :func:`write` left in ``folder``.

    Raises:
        RequestError: when there is none, or it is damaged or of another version.
    """
    record = _record(folder / RECORD)
    file = folder / Path(record["tensors"]).name
    try:
        return record, safetensors.torch.load_file(file)
    except (OSError, safetensors.SafetensorError) as error:
        raise RequestError(f"{RECORD} must stand beside its tensors; received {file}: {_line(error)}") from error


def _record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RequestError(f"a saved subspace has a readable {RECORD}; received {path}: {_line(error)}") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise RequestError(f"a saved subspace says format {FORMAT!r}; received {path}, which does not")
    if record.get("version") != VERSION:
        raise RequestError(f"this idim reads subspaces of version {VERSION}; received version {record.get('version')}")
    for name, kind in FIELDS.items():
        if not isinstance(record.get(name), kind):
            raise RequestError(f"field {name!r} of {path} must be a {kind.__name__}; received {record.get(name)!r}")
    return record


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
