"""idim: how many numbers does learning really take?

Names are imported when they are first used, so that ``idim --help`` does not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from idim import projections
    from idim.delta_tuning.report import MethodsReport
    from idim.delta_tuning.survey import survey
    from idim.dimension.measure import measure
    from idim.dimension.result import DimensionResult
    from idim.spectral.report.spectrum_report import SpectrumReport
    from idim.spectral.spectrum import spectrum
    from idim.subspace import Subspace
    from idim.theory.bounding import bound
    from idim.theory.report import BoundReport

__all__ = [
    "BoundReport",
    "DimensionResult",
    "MethodsReport",
    "SpectrumReport",
    "Subspace",
    "__version__",
    "bound",
    "measure",
    "projections",
    "spectrum",
    "survey",
]

_HOMES = {
    "BoundReport": "idim.theory.report",
    "DimensionResult": "idim.dimension.result",
    "MethodsReport": "idim.delta_tuning.report",
    "SpectrumReport": "idim.spectral.report.spectrum_report",
    "Subspace": "idim.subspace",
    "bound": "idim.theory.bounding",
    "measure": "idim.dimension.measure",
    "spectrum": "idim.spectral.spectrum",
    "survey": "idim.delta_tuning.survey",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name == "projections":
        return importlib.import_module("idim.projections")
    raise AttributeError(f"module 'idim' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
