"""``idim figures``: finds the drawing programs of a checkout, and has them draw.

Figures are drawn from results that the repository keeps (``experiments/results/``) by the files of ``paper_figs/``.
Neither is part of the installed package: they belong to the experiments, not to the tool.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from idim.errors import RequestError
from idim.files import paths_from_text, writable_folder

FOLDER = "paper_figs"


@dataclass(frozen=True, kw_only=True)
class FiguresRequest:
    """Draw the paper figures from stored results, as pdf and png with the plotted numbers as JSON; nothing trains."""

    names: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[NAME …]")] = ()
    """Figures to draw. Default: all whose runs are there."""
    store: Path | None = None
    """Folder of results, laid out as experiments/ of the repository is. Default: that one."""
    out: Path = Path("idim-out/figures")
    """Folder for NAME.pdf, NAME.png and NAME.json."""
    quiet: bool = False
    """Say nothing of what is drawn."""

    def __post_init__(self) -> None:
        paths_from_text(self, "store", "out")


def run_figures(request: FiguresRequest) -> Iterator[str]:
    """Draw, and yield a line for each figure.

    Raises:
        RequestError: outside a checkout; for an unknown name or folder; when a figure that was named lacks its runs.
    """
    home = checkout()
    if request.store is not None and not (request.store / "results").is_dir():
        raise RequestError(f"store must be a folder with results/ in it, as experiments/ is; received {request.store}")
    common, gallery = _module(home, "common"), _module(home, "gallery")
    gallery.check(request.names)
    desk = common.Desk(experiments=request.store or home / "experiments", out=writable_folder(request.out))
    with common.at(desk):
        for name, missing in gallery.drawn(request.names):
            if missing is not None and request.names:
                raise missing
            yield f"drew {name}" if missing is None else f"left out {name}: {missing}"


def checkout() -> Path:
    """Return the folder that holds the drawing programs: the one of this package, else the current one.

    Raises:
        RequestError: when neither has them.
    """
    places = (Path(__file__).resolve().parents[1], Path.cwd())
    for place in places:
        if (place / FOLDER / "gallery.py").is_file():
            return place
    raise RequestError(
        f"figures are drawn by {FOLDER}/ of the repository, which the installed package leaves out; "
        f"received the folder {places[1]}: run this in a checkout"
    )


def _module(home: Path, name: str) -> Any:
    if str(home) not in sys.path:
        sys.path.insert(0, str(home))
    return importlib.import_module(f"{FOLDER}.{name}")
