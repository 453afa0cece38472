"""``FILE.py:FUNCTION``: a network of the user's own.

The function is called as ``FUNCTION(input_shape, outputs, generator)`` and returns an ``nn.Module``. It
should draw its initial weights from ``generator``; within a run torch's global generator, which layers and
dropout draw from by themselves, starts from the seed too. The file is part of what a run is: its content
is hashed into the name of the model, ``FILE.py:FUNCTION@HASH``, and a run whose file has changed since is
refused, not trained under the old name. What the file imports is not hashed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from idim.errors import RequestError

MARK = ".py:"


def is_path(name: str) -> bool:
    """Whether a model's name is that of a function in a file."""
    return MARK in name


def pin(name: str) -> str:
    """Return ``FILE.py:FUNCTION@HASH`` for the file as it is now; a name that has its hash is checked.

    Raises:
        RequestError: for a missing file, or one that has another hash than the name.
    """
    place, wanted = _parted(name)
    path = Path(place.rpartition(":")[0])
    if not os.path.isfile(path):
        raise RequestError(f"model FILE.py:FUNCTION needs a file; received {str(path)!r}, which does not exist")
    found = hashlib.blake2b(path.read_bytes(), digest_size=6).hexdigest()
    if wanted and wanted != found:
        raise RequestError(f"the file {path} must be as it was when the run was asked for, {wanted}; received {found}")
    return f"{place}@{found}"


def build(name: str, input_shape: tuple[int, ...], outputs: int, generator: torch.Generator) -> nn.Module:
    """Return what the user's function returns.

    Raises:
        RequestError: for a missing file or function, one that fails, or one that returns no module.
    """
    place, _ = _parted(pin(name))
    function = _function(place)
    try:
        module = function(input_shape, outputs, generator)
    except (Exception, SystemExit) as error:
        raise RequestError(
            f"model {place!r} failed with {type(error).__name__}: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(module, nn.Module):
        raise RequestError(f"model {place!r} must return a torch.nn.Module; received {type(module).__name__}")
    return module


def _parted(name: str) -> tuple[str, str]:
    """Return ``FILE.py:FUNCTION`` and the hash, empty where there is none; folders may have an ``@`` in their names."""
    file, _, function = name.rpartition(MARK)
    function, _, wanted = function.partition("@")
    return f"{file}{MARK}{function}", wanted


def _function(place: str) -> Callable[..., Any]:
    file, _, name = place.rpartition(":")
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    if spec is None or spec.loader is None:
        raise RequestError(f"model FILE.py:FUNCTION needs a Python file; received {file!r}")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise RequestError(
            f"the file {file} failed with {type(error).__name__}: {' '.join(str(error).split())}"
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise RequestError(f"the file {file} must have a function {name!r}; received one without it")
    return function  # type: ignore[no-any-return]
