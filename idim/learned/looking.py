r"""Carrying out ``idim subspace learn curvature``: the leading directions of a network where it stands.

*Hessian* and *Gauss–Newton* (:mod:`idim.learned.curvature`): the eigenvectors that are largest in magnitude, by Lanczos
(:mod:`idim.learned.lanczos`). *Gradients* (:mod:`idim.learned.gradients`): the leading singular directions of the
gradients of single rows, by their Gram matrix where all of them fit into GRAM numbers, else by a random sketch.

Rows are those of the training split; what is learned at the initial parameters of a seed is a basis for the training
of that seed. Source: G. Gur-Ari, D. Roberts, E. Dyer, "Gradient Descent Happens in a Tiny Subspace", 2018,
arXiv:1812.04754, who look at the Hessian along a training.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from idim import models, tasks
from idim.errors import RequestError
from idim.files import writable_folder
from idim.learned.basis_writer import save_basis
from idim.learned.cost import PASSES, Cost
from idim.learned.curvature import Curvature, GaussNewton, Hessian
from idim.learned.gradients import Gradients, gram_directions, sketched_directions
from idim.learned.lanczos import Symmetric, lanczos
from idim.learned.learning import set_apart
from idim.learned.objective import Objective
from idim.learned.request import CurvatureRequest
from idim.runs import RunSpec
from idim.runs.heads import HEAD_LR, usual_head
from idim.runs.learner import network
from idim.runs.rows import Rows, rows_of
from idim.runs.train import alone, weights_folder
from idim.tasks import Task
from idim.tasks.task import hashed_order

ROWS = 1000  # looked at unless asked otherwise
GRAM = 1 << 28  # numbers: 1 GiB of float32
SKETCH_PASSES = 7  # over all rows: 2 rounds of two, and three
SECONDS_BETWEEN_LINES = 15.0  # in a log, which is not a terminal
KINDS: dict[str, type[Curvature]] = {"hessian": Hessian, "gauss-newton": GaussNewton}


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What was found and written.

    Attributes:
        path: the basis.
        of: of what the directions are.
        D: number of rows of the basis.
        values: eigenvalue, or singular value, of every column.
        residual: largest ‖A x - µ x‖ as a share of the first value.
        converged: whether every residual is at most the tolerance that was asked for.
        rows: rows of data.
        cost: the work.
    """

    path: Path
    of: str
    D: int
    values: tuple[float, ...]
    residual: float
    converged: bool
    rows: int
    cost: Cost

    def __str__(self) -> str:
        doubt = "" if self.converged else "; NOT converged: raise --products, or ask for fewer columns"
        first, last = self.values[0], self.values[-1]
        return (
            f"{self.path}: {len(self.values)} columns over D = {self.D:,}, of {self.of} over {self.rows:,} rows; "
            f"values {first:.4g} to {last:.4g}, residuals up to {self.residual:.1e} of the first{doubt}; "
            f"cost: gradients of {self.cost.rows:,} rows"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Found:
    vectors: Tensor
    values: Tensor
    residuals: Tensor
    converged: bool
    passes: int


def learn_curvature(request: CurvatureRequest) -> Looked:
    """Find the leading directions at a network's initial parameters, and write them as a basis.

    Raises:
        RequestError: when the request cannot be served, before the work where that can be known.
    """
    writable_folder(request.out.absolute().parent)
    task = tasks.load(request.task, data=request.data)
    spec, chosen = _spec(request, task), _chosen(request, task)
    with alone(request.seed):
        objective = _objective(request, spec, task, chosen)
        found = _gradients(request, objective) if request.of == "gradients" else _curvature(request, objective)
    cost, values = Cost(rows=found.passes * len(chosen)), tuple(found.values.tolist())
    about = {"how": request.of, "rows": len(chosen), "values": list(values), "cost": cost.to_json()}
    tensors = dict(zip(objective.layout.names, objective.parameters, strict=True))
    save_basis(
        request.out,
        found.vectors,
        tensors,
        learned=about | {"converged": found.converged},
        precision=request.precision,
        fits_any=request.fits_any,
    )
    return Looked(
        path=request.out,
        of=request.of,
        D=objective.D,
        values=values,
        residual=float(found.residuals.max()) / max(abs(values[0]), 1e-300),
        converged=found.converged,
        rows=len(chosen),
        cost=cost,
    )


def _spec(request: CurvatureRequest, task: Task) -> RunSpec:
    """Return the training whose network is looked at before its first step."""
    model = models.resolve(task.default_model if request.model is None else request.model)
    head = usual_head(model, task)
    length = task.recipe.length if request.length is None else request.length
    return RunSpec(
        task=task.name,
        fingerprint=task.fingerprint,
        model=model,
        method="full",
        lr=1.0,
        recipe=dataclasses.replace(task.recipe, length=length),
        seed=request.seed,
        head=head,
        head_lr=HEAD_LR if head == "trained" else None,
    )


def _chosen(request: CurvatureRequest, task: Task) -> Tensor:
    """Return the numbers of the rows that are looked at."""
    have = len(task.train)
    wanted = min(ROWS, have) if request.rows is None else request.rows
    if wanted > have:
        raise RequestError(f"rows must be at most the {have:,} of the training split; received {wanted}")
    if request.of == "gradients" and request.columns > wanted:
        raise RequestError(
            f"columns must be at most the {wanted} rows with a gradient each; received {request.columns}"
        )
    return hashed_order(have, "rows for curvature")[:wanted]


def _objective(request: CurvatureRequest, spec: RunSpec, task: Task, chosen: Tensor) -> Objective:
    model = network(spec, task, weights_folder(request.data))
    rows: Rows = rows_of(spec, task.train)
    objective = Objective(
        model,
        task.loss,
        rows.inputs[chosen],
        rows.targets[chosen],
        weights=None if rows.weights is None else rows.weights[chosen].float(),
        include=request.include,
        exclude=(*request.exclude, *set_apart(spec)),
        batch=64 if rows.lengths is not None else 512,
        double=spec.recipe.precision == "float64",
    )
    _check_size(request, objective)
    return objective


def _check_size(request: CurvatureRequest, objective: Objective) -> None:
    """Refuse more columns than parameters, or vectors that the machine cannot hold."""
    D, k = objective.D, request.columns
    if k > D:
        raise RequestError(f"columns must be at most D = {D:,}; received {k}")
    vectors = 3 * (k + 10) if request.of == "gradients" else min(D, 2 * k + 20) + 1 + k
    needed, have = vectors * D * objective.dtype.itemsize, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > have:
        raise RequestError(
            f"{vectors} vectors of D = {D:,} must fit into memory, {needed / 1e9:.0f} of {have / 1e9:.0f} GB; "
            f"received columns {k}: ask for fewer, or leave parameters out with --exclude"
        )


def _curvature(request: CurvatureRequest, objective: Objective) -> _Found:
    with _counted(KINDS[request.of](objective), request) as matrix:
        pairs = lanczos(
            matrix, k=request.columns, seed=request.seed, tolerance=request.tolerance, products=request.products
        )
    return _Found(
        vectors=pairs.vectors,
        values=pairs.values,
        residuals=pairs.residuals,
        converged=pairs.converged,
        passes=PASSES * pairs.products,
    )


def _gradients(request: CurvatureRequest, objective: Objective) -> _Found:
    gradients, fits = Gradients(objective=objective), len(objective) * objective.D <= GRAM
    if fits:
        found = gram_directions(gradients, k=request.columns)
    else:
        found = sketched_directions(gradients, k=request.columns, seed=request.seed)
    if len(found.values) < request.columns:
        raise RequestError(
            f"columns must be at most the rank of the gradients of {len(objective)} rows, {len(found.values)}; "
            f"received {request.columns}"
        )
    converged = bool((found.residuals <= request.tolerance * found.values[0]).all())
    return _Found(
        vectors=found.vectors,
        values=found.values,
        residuals=found.residuals,
        converged=converged,
        passes=1 if fits else SKETCH_PASSES,
    )


class _Counted:
    """A matrix whose products are counted on a bar."""

    def __init__(self, matrix: Symmetric, bar: Any) -> None:
        self.matrix, self.bar = matrix, bar
        self.D, self.dtype, self.device = matrix.D, matrix.dtype, matrix.device

    def matvec(self, v: torch.Tensor) -> torch.Tensor:
        """Return A v."""
        image = self.matrix.matvec(v)
        self.bar.update()
        return image


@contextmanager
def _counted(matrix: Symmetric, request: CurvatureRequest) -> Iterator[_Counted]:
    """Yield the matrix with its products shown on stderr, unless ``quiet``."""
    from tqdm.auto import tqdm

    words = f"products with the {request.of} matrix, {request.products:,} at most"
    interval = 0.2 if sys.stderr.isatty() else SECONDS_BETWEEN_LINES
    shape: dict[str, Any] = {"desc": words, "bar_format": "{desc}: {n} [{elapsed}]", "mininterval": interval}
    with tqdm(disable=request.quiet, leave=False, **shape) as bar:
        yield _Counted(matrix, bar)
