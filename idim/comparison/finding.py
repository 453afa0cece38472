"""Finding the subspaces of a comparison, each from the training of seed 0, from its start, or from other tasks.

What is found is kept: trainings and checkpoints in the store, bases in a folder under names that hash what they were
learned from, so that a comparison that is started again goes on.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from idim import models, projections
from idim.comparison.contender import Contender
from idim.comparison.request import DELTAS, CompareRequest
from idim.errors import RequestError, unknown
from idim.learned.building import build
from idim.learned.cost import Cost, cost_of
from idim.learned.learning import checkpoints, set_apart, spaced
from idim.learned.looking import learn_curvature
from idim.learned.request import CurvatureRequest
from idim.learned.vectors import Vectors, layout_of, open_model
from idim.models.origin import parted
from idim.parameters import Layout
from idim.projections.basis_file import BasisFile, open_basis
from idim.projections.decoder_file import DecoderFile, open_decoder
from idim.runs import RunSpec, Store
from idim.runs.artifacts import BASE, step_name
from idim.runs.spec import canonical
from idim.tasks import Task

ZERO = "hadamard"
POINTS = 50
BURN_IN = 0.1  # of the steps
Looked = Literal["hessian", "gauss-newton", "gradients"]


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """Where subspaces are found.

    Attributes:
        request: what was asked.
        store: of trainings and checkpoints.
        folder: of the bases.
        task: what they are found for.
        others: the tasks that deltas are learned from.
        full: the full training of seed 0.
        layout: the parameters inside.
    """

    request: CompareRequest
    store: Store
    folder: Path
    task: Task
    others: tuple[Task, ...]
    full: RunSpec
    layout: Layout

    def find(self, kind: str) -> Contender:
        """Return a subspace by the name of its kind, found now unless it was found before.

        Raises:
            RequestError: when it cannot be found.
        """
        return FOUND[kind](self) if kind in FOUND else self.named(kind)

    def named(self, kind: str) -> Contender:
        """Return a projection that needs no finding here: a random one, or what a file holds."""
        name = projections.resolve(ALIASES.get(kind, kind))
        reader = next((reader for reader in READERS if f"{reader}:" in name), None)
        if reader is None:
            return self._contender(kind, "random", name, most_d=self._most_d(name))
        path = Path(parted(name.partition(f"{reader}:")[2])[0])
        return self._stored(
            kind, f"from a file: {READERS[reader](path).learned.get('how', reader)}", name, reader, path
        )

    def based(self, kind: str, what: str, path: Path) -> Contender:
        """Return a subspace from the basis that was written here."""
        return self._stored(kind, what, projections.resolve(f"basis:{path}"), "basis", path)

    def _stored(self, kind: str, what: str, name: str, reader: str, path: Path) -> Contender:
        file, most = READERS[reader](path), self._most_d(name)
        return self._contender(
            kind,
            what,
            name,
            seeded=not file.base,  # it fits any initial parameters
            least_d=most if reader == "decoder" else 1,
            most_d=most,
            cost=Cost.of(file.learned),
            stored_bytes=path.stat().st_size,
        )

    def burnt_in(self) -> Contender:
        """Return a random subspace around the network after some steps of full training."""
        step = self._burn_in
        file = self._checkpoint(step_name(step))
        run = dataclasses.replace(self.full, recipe=dataclasses.replace(self.full.recipe, steps=step))
        found = self._contender(
            "burn-in", f"random, around step {step:,} of full training", ZERO, most_d=self.layout.D, starts=True,
            cost=self._cost(run), stored_bytes=file.stat().st_size,
        )  # fmt: skip
        return dataclasses.replace(found, model=models.resolve(f"start:{file}:{self.full.model}"))

    def followed(self, *, centre: Literal["mean", "start"]) -> Contender:
        """Return the principal components of the full training."""
        kind = "trajectory" if centre == "mean" else "lottery"
        names = [BASE, *(step_name(step) for step in spaced(self.full.recipe.steps, self._points))]
        about = {"how": kind, "run": self.full.key, "points": self._points}
        path = self._path(kind, about)
        if not path.is_file():
            self._build(path, [self._checkpoint(n) for n in names], centre == "mean", about, self._cost(self.full))
        what = f"principal components of {self._points} checkpoints" + (", from the start" if kind == "lottery" else "")
        return self.based(kind, what, path)

    def tuned(self) -> Contender:
        """Return the leading directions of networks tuned on the other tasks from the same start."""
        runs = [self._on(other) for other in self.others]
        about = {"how": DELTAS, "runs": [run.key for run in runs]}
        path = self._path(DELTAS, about)
        if not path.is_file():
            data = self.request.data
            ends = [checkpoints(self.store, run, steps=(), data=data) for run in runs]
            files = [ends[0][0], *(last for *_, last in ends)]  # all start from the same parameters
            self._build(path, files, False, about, self._cost(*runs))
        return self.based(DELTAS, f"tuned on {', '.join(other.name for other in self.others)}", path)

    def looked(self, of: Looked) -> Contender:
        """Return the leading directions at the initial parameters."""
        columns, recipe = max(self.request.dimensions), self.full.recipe
        about = {
            "of": of, "columns": columns, "rows": self.request.rows, "products": self.request.products,
            "model": self.full.model, "task": self.full.fingerprint,
        }  # fmt: skip
        path = self._path(of, about)
        if not path.is_file():
            learn_curvature(
                CurvatureRequest(
                    task=self.task.name,
                    model=self.full.model,
                    of=of,
                    columns=columns,
                    rows=self.request.rows,
                    products=self.request.products,
                    length=recipe.length or None,
                    out=path,
                    data=self.request.data,
                    quiet=self.request.quiet,
                )
            )
        learned = open_basis(path).learned
        doubt = "" if learned["converged"] else ", not converged"
        return self.based(of, f"leading directions over {learned['rows']:,} rows at the start{doubt}", path)

    # -- what they are made of ----------------------------------------------------------------

    @property
    def _points(self) -> int:
        return min(self.full.recipe.steps, self.request.points or max(POINTS, *self.request.dimensions))

    @property
    def _burn_in(self) -> int:
        return self.request.burn_in or max(1, round(BURN_IN * self.full.recipe.steps))

    def _most_d(self, name: str) -> int:
        return projections.most_d(name, D=self.layout.D, layers=self.layout.layers)

    def _checkpoint(self, name: str) -> Path:
        """Return a file of the full training, which is made where it is not there."""
        steps = sorted({*spaced(self.full.recipe.steps, self._points), self._burn_in})
        files = checkpoints(self.store, self.full, steps=steps, data=self.request.data)
        return files[0].with_name(name)

    def _on(self, other: Task) -> RunSpec:
        recipe = dataclasses.replace(other.recipe, steps=self.full.recipe.steps)
        return dataclasses.replace(self.full, task=other.name, fingerprint=other.fingerprint, recipe=recipe)

    def _cost(self, *runs: RunSpec) -> Cost:
        return cost_of(runs, train_rows=len(self.task.train))

    def _path(self, kind: str, about: dict[str, Any]) -> Path:
        """Return the name of a basis, with the hash of what it is learned from."""
        return self.folder / f"{kind}-{hashlib.sha256(canonical(about).encode()).hexdigest()[:12]}.safetensors"

    def _build(self, path: Path, files: list[Path], centred: bool, about: dict[str, Any], cost: Cost) -> None:
        """Write the basis of some models, the first of them the one it starts from."""
        sources = [open_model(file) for file in files]
        layout = layout_of(sources[0], exclude=set_apart(self.full))
        moved = sources if centred else sources[1:]
        vectors = Vectors(moved, base=sources[0], layout=layout, centred=centred)
        build(vectors, path, learned=about | {"cost": cost.to_json()})

    def _contender(self, kind: str, what: str, projection: str, **options: Any) -> Contender:
        return Contender(kind=kind, what=what, projection=projection, model=self.full.model, **options)


READERS: dict[str, Callable[[Path], BasisFile | DecoderFile]] = {"basis": open_basis, "decoder": open_decoder}
ALIASES = {"said": "layerwise"}
FOUND: dict[str, Callable[[Workshop], Contender]] = {
    "burn-in": Workshop.burnt_in,
    "trajectory": functools.partial(Workshop.followed, centre="mean"),
    "lottery": functools.partial(Workshop.followed, centre="start"),
    DELTAS: Workshop.tuned,
    "hessian": functools.partial(Workshop.looked, of="hessian"),
    "gauss-newton": functools.partial(Workshop.looked, of="gauss-newton"),
    "gradients": functools.partial(Workshop.looked, of="gradients"),
}
FOLLOWED = ("burn-in", "trajectory", "lottery")
"""Kinds that need checkpoints on the way of a training."""
TRAINED = (*FOLLOWED, DELTAS)
"""Kinds that need full trainings."""


def check_kind(kind: str, full_optimizer: str) -> None:
    """Refuse a kind that cannot be found, before anything trains.

    Raises:
        RequestError: for an unknown kind, a basis that is not there, or checkpoints of a training without steps.
    """
    if kind in FOLLOWED and full_optimizer == "lbfgs":
        raise RequestError(
            f"kind {kind!r} needs checkpoints on the way of a training; received a task whose recipe is L-BFGS, "
            "which has none: leave it out"
        )
    if kind in FOUND:
        return
    name = ALIASES.get(kind, kind)
    if name.partition(":")[0] not in projections.KINDS:
        raise unknown("kind of subspace", kind, (*FOUND, *ALIASES, *projections.KINDS))
    projections.resolve(name)
