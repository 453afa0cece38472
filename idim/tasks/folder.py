"""Where data lies: an argument, else the environment variable IDIM_DATA, else ``./data``."""

from __future__ import annotations

import os
from pathlib import Path

from idim.errors import RequestError

VARIABLE = "IDIM_DATA"


def data_folder(data: Path | None) -> Path:
    """Return the data folder that is in force (it need not exist)."""
    return data if data is not None else Path(os.environ.get(VARIABLE) or "data")


def dataset(name: str, data: Path | None) -> Path:
    """Return the folder ``name`` of the data folder.

    Raises:
        RequestError: when it is missing: where it was looked for, and how to give it.
    """
    folder = data_folder(data) / name
    if not os.path.isdir(folder):
        raise RequestError(
            f"task {name!r} needs the folder {folder.absolute()}, which does not exist; "
            f"give the folder that holds {name!r} with --data DIR or {VARIABLE}"
        )
    return folder
