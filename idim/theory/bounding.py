"""``bound``: from finished runs to what they prove about rows that nobody has seen.

Each run goes through :mod:`idim.theory.finished` (its trained numbers), :mod:`idim.theory.certificate` (few levels,
bits, wrong answers) and :mod:`idim.theory.bounds`. What is done is kept under OUT: ``trained/KEY`` has the numbers as
trained, ``coded/KEY`` the network that the bound is for, both as :meth:`idim.Subspace.save` writes them, so the same
request goes on where it ended.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from idim.errors import RequestError
from idim.files import writable_folder, write_json
from idim.runs import RunSpec
from idim.runs.spec import canonical
from idim.runs.train import load_task
from idim.theory.certificate import Certificate, Coding, certify
from idim.theory.finished import RUN, check, finished
from idim.theory.report import BoundReport, certificate
from idim.theory.request import BoundRequest
from idim.theory.selection import Chosen, chosen

VERSION = 1  # raised when the same request would give other numbers
CERTIFICATE = "certificate.json"


def bound(*runs: str | Path, **options: object) -> BoundReport:
    """Bound the risk of finished runs.

    Args:
        runs: folders of saved subspaces; with ``store`` also keys.
        options: the other fields of :class:`~idim.theory.request.BoundRequest`.

    Raises:
        RequestError: when the request cannot be served.
    """
    return run_bound(BoundRequest(runs=tuple(map(str, runs)), **options))  # type: ignore[arg-type]


def run_bound(request: BoundRequest) -> BoundReport:
    """Serve a request, and return the report without writing it.

    Raises:
        RequestError: when the request cannot be served, before anything trains.
    """
    coding = Coding(
        levels=request.level_counts,
        tune=request.tune,
        lr=request.lr,
        delta=request.delta,
        extra=request.extra_bits,
    )
    return bound_runs(
        chosen(request), coding, out=request.out, data=request.data, unseen=request.unseen, quiet=request.quiet
    )


def bound_runs(
    runs: Sequence[Chosen],
    coding: Coding,
    *,
    out: Path,
    data: Path | None = None,
    unseen: bool = False,
    quiet: bool = True,
) -> BoundReport:
    """Return the certificates of runs, training again what ``out`` does not have.

    Args:
        runs: with their choice among settings paid for.
        coding: how they are written down.
        out: folder of trained numbers and of networks that are written down.
        data: the data folder.
        unseen: see :func:`idim.theory.finished.check`.
        quiet: say nothing on the way.

    Raises:
        RequestError: for a run that can have no bound, before anything trains.
    """
    from tqdm.auto import tqdm

    for run in runs:
        check(run.spec, load_task(run.spec, data), unseen=unseen)
    writable_folder(out)
    with tqdm(runs, disable=quiet, leave=False, file=sys.stderr, unit="run") as bar:
        found = [one(run, coding, out=out, data=data, unseen=unseen) for run in bar]
    return BoundReport(delta=coding.delta, certificates=tuple(found))


def one(run: Chosen, coding: Coding, *, out: Path, data: Path | None, unseen: bool) -> Certificate:
    """Return the certificate of a run, from ``out`` where it is there."""
    priced = dataclasses.replace(coding, extra=coding.extra + run.choice)
    key = run.spec.key if run.folder is None else _folder_key(run.folder)
    folder = out / "coded" / key
    kept = _kept(folder / CERTIFICATE, priced)
    if kept is not None:
        return kept
    made = finished(run.spec, run.folder or out / "trained" / key, data=data, unseen=unseen)
    found, _ = certify(made, priced)
    made.space.save(folder)
    write_json(folder / RUN, run.spec.to_json())
    write_json(folder / CERTIFICATE, {"asked": _asked(priced), **dataclasses.asdict(found)})
    return found


def _kept(path: Path, coding: Coding) -> Certificate | None:
    """Return the certificate of a file if it answers the same question."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text())
        return certificate(content) if content.pop("asked") == _asked(coding) else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{path} must be a certificate; received: {error}: delete it") from error


def _asked(coding: Coding) -> str:
    content = dataclasses.asdict(coding) | {"version": VERSION}
    return hashlib.sha256(canonical(content).encode()).hexdigest()


def _folder_key(folder: Path) -> str:
    """Return a name for what a folder holds: the hash of its record, which names its tensors by hash."""
    return hashlib.sha256((folder / "subspace.json").read_bytes()).hexdigest()


def specs(runs: Sequence[RunSpec], settings: float = 0.0) -> list[Chosen]:
    """Return runs to bound that are in no store, at so many bits for their settings."""
    return [Chosen(spec=spec, choice=settings) for spec in runs]
