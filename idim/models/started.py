"""``start:FILE.safetensors:MODEL`` and ``head:FILE.safetensors:MODEL``: networks that start from what a file holds.

The file is a checkpoint of the same network, as a run keeps them. So a run in a random subspace around the network
after some steps of full training, *burn-in*, is a run like any other:
``start:step-000100.safetensors:mlp:200,200`` with ``projection: hadamard``. The content of the file is hashed into the
name. Every seed starts from the same parameters; the order of the data and P are its own. ``head:`` takes the
fresh last layer alone from the file, such as that of a linear probe, at whose answers training starts then.

Source: B. W. Larsen, S. Fort, N. Becker, S. Ganguli, "How many degrees of freedom do we need to train deep networks",
2021, arXiv:2107.05802 (burn-in affine subspaces).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from idim.errors import RequestError
from idim.models.origin import file_digest

MARKS = ("start:", "head:")
NAME = re.compile(
    r"(?P<mark>start|head):(?P<file>.+?\.safetensors)(?:@(?P<digest>[0-9a-f]{16}))?:(?P<model>.+)", re.DOTALL
)
BODY = "body."  # of names in a network with a fresh head, which files leave out
HEAD = "head."  # of names in the fresh head


def knows(name: str) -> bool:
    """Whether a model's name says where it starts."""
    return name.startswith(MARKS)


def model_of(name: str) -> str:
    """Return the name of the network itself, which is ``name`` where it says no start.

    Raises:
        RequestError: for a start without a file or a network.
    """
    return model_of(inside(name)) if knows(name) else name


def inside(name: str) -> str:
    """Return the name of the network that a start is of.

    Raises:
        RequestError: for a start without a file or a network.
    """
    return _parts(name)["model"]


def pin(name: str) -> str:
    """Return ``start:FILE@HASH:``, or ``head:FILE@HASH:``, for the file as it is; a name that has its hash is checked.

    Raises:
        RequestError: for a missing file, or one that has another hash than the name.
    """
    parts = _parts(name)
    file, wanted = parts["file"], parts["digest"]
    if not os.path.isfile(file):
        form = f"{parts['mark']}:FILE:MODEL"
        raise RequestError(f"model {form!r} needs a safetensors file; received {file!r}: no such file")
    if (found := file_digest(Path(file))) != wanted and wanted:
        raise RequestError(f"the file {file} must be as it was when the run was asked for, {wanted}; received {found}")
    return f"{parts['mark']}:{file}@{found}:"


def fill(network: nn.Module, name: str) -> nn.Module:
    """Put the parameters and buffers of the file, or those of its head alone, into a network, and return it.

    Raises:
        RequestError: when the file is another network's, or cannot be read.
    """
    pin(name)
    parts = _parts(name)
    file = parts["file"]
    try:
        stored = load_file(file)
    except (OSError, SafetensorError) as error:
        raise RequestError(
            f"a start must be a safetensors file; received {file}: {' '.join(str(error).split())}"
        ) from error
    wanted = {n: t for n, t in network.state_dict().items() if parts["mark"] == "start" or n.startswith(HEAD)}
    if not wanted:
        raise RequestError(f"'head:FILE:MODEL' needs a network with a fresh last layer; received {parts['model']!r}")
    for own, tensor in wanted.items():
        tensor.copy_(_fitting(own, tensor, stored, file))
    return network


def _fitting(name: str, tensor: Tensor, stored: dict[str, Tensor], file: str) -> Tensor:
    found = stored.get(name, stored.get(name.removeprefix(BODY)))
    if found is None:
        raise RequestError(f"a start must hold all of the network's tensors; received {file} without {name!r}")
    if found.shape != tensor.shape:
        raise RequestError(
            f"tensor {name!r} must have shape {list(tensor.shape)}; received {list(found.shape)} in {file}"
        )
    return found


def _parts(name: str) -> dict[str, str]:
    parts = NAME.fullmatch(name)
    if parts is None:
        mark = name.partition(":")[0]
        raise RequestError(f"a start is written {mark}:FILE.safetensors:MODEL; received {name!r}")
    return parts.groupdict()
