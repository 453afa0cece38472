"""Certificates of several runs: a table, JSON, and a picture against d."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from idim.errors import RequestError
from idim.files import writable_folder, write_json
from idim.runs.environment import versions
from idim.theory.bounds import Bounds
from idim.theory.certificate import Certificate, Errors
from idim.theory.codes import Bits

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

FORMAT = 1
REPORT = "report.json"
NESTED = {"bits": Bits, "before": Errors, "errors": Errors, "bounds": Bounds}
HEAD = ("run", "d", "levels", "bits", "trained", "coded", "test", "kl", "hoeffding")


@dataclass(frozen=True, kw_only=True)
class BoundReport:
    """What finished runs prove.

    Attributes:
        delta: probability that any bound of one task fails, over the draw of its training rows.
        certificates: one for each run.
    """

    delta: float
    certificates: tuple[Certificate, ...]

    @property
    def best(self) -> Certificate:
        """The certificate with the smallest bound; having looked for it costs nothing."""
        return min(self.certificates, key=lambda c: c.bounds.kl)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        rows = [dataclasses.asdict(c) | {"vacuous": c.vacuous} for c in self.certificates]
        return {"format": FORMAT, "delta": self.delta, "certificates": rows, "versions": versions()}

    def to_frame(self) -> pd.DataFrame:
        """Return a row for each run: shares of wrong answers and bounds on them."""
        import pandas as pd

        return pd.DataFrame([_flat(c) for c in self.certificates])

    def save(self, folder: Path) -> Path:
        """Write ``report.json``; return the folder.

        Raises:
            RequestError: when the folder is not writable.
        """
        write_json(writable_folder(folder) / REPORT, self.to_dict())
        return folder

    @classmethod
    def load(cls, folder: Path) -> BoundReport:
        """Return the report of a folder.

        Raises:
            RequestError: when there is none, or it cannot be read.
        """
        path = folder / REPORT
        try:
            content = json.loads(path.read_text())
            return cls(delta=content["delta"], certificates=tuple(certificate(row) for row in content["certificates"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RequestError(f"{path} must be a report of idim bound; received: {error}") from error

    def plot(self, ax: Axes) -> Axes:
        """Draw bound, training error and test error against d."""
        from idim import plots

        rows = sorted(self.certificates, key=lambda c: c.d)
        return plots.bound_curve(
            ax,
            d=[c.d for c in rows],
            bound=[c.bounds.kl for c in rows],
            train=[c.errors.train for c in rows],
            test=[c.errors.test for c in rows],
            guess=rows[0].guess,
        )

    def __str__(self) -> str:
        rows = [HEAD, *(_row(c) for c in self.certificates)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
            for row in rows
        ]
        return "\n".join([*lines, "", *self._said()])

    def _said(self) -> list[str]:
        vacuous = sum(c.vacuous for c in self.certificates)
        best = self.best
        head = (
            f"share of wrong answers in %; trained: of the run, on its {best.m:,} rows;\n"
            "coded, test: of the network that is written down; kl, hoeffding: bounds on it"
        )
        if vacuous == len(self.certificates):
            return [head, f"vacuous: guessing errs in {100 * best.guess:.0f} %, and no bound is below that"]
        also = f"; {vacuous} of {len(self.certificates)} are vacuous" if vacuous else ""
        return [
            head,
            f"with probability {1 - self.delta:g} over the training rows: {best.model}, d = {best.d:,}, "
            "errs in at most\n"
            f"{100 * best.bounds.kl:.2f} % (on {best.tests:,} test rows: {100 * best.errors.test:.2f} %){also}",
        ]


def certificate(content: dict[str, Any]) -> Certificate:
    """Return a certificate of plain data."""
    fields = {name: value for name, value in content.items() if name != "vacuous"}
    fields |= {name: kind(**content[name]) for name, kind in NESTED.items()}
    return Certificate(**fields | {"levels": tuple(content["levels"])})


def _row(c: Certificate) -> tuple[str, ...]:
    name = c.model if len(c.model) <= 14 else f"{c.model[:13]}…"
    shares = (c.before.train, c.errors.train, c.errors.test, c.bounds.kl, c.bounds.hoeffding)
    return (
        f"{name} {c.seed}", f"{c.d}", "+".join(map(str, c.levels)), f"{c.bits.total:,.0f}",
        *(f"{100 * share:.2f}" for share in shares),
    )  # fmt: skip


def _flat(c: Certificate) -> dict[str, Any]:
    return {
        "model": c.model, "d": c.d, "seed": c.seed, "levels": "+".join(map(str, c.levels)), "bits": c.bits.total,
        "trained": c.before.train, "train": c.errors.train, "test": c.errors.test,
        **{f"bound_{name}": value for name, value in dataclasses.asdict(c.bounds).items()}, "vacuous": c.vacuous,
    }  # fmt: skip
