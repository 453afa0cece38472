"""The proof that runs can work, before anything trains: data are there, networks can be built, P exists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from idim import models, projections, tasks
from idim.parameters import Layout, choose
from idim.runs.learner import HEAD, attached, network
from idim.runs.rows import check_texts
from idim.runs.spec import PLAIN, RunSpec
from idim.runs.train import weights_folder
from idim.tasks import Task


class Shop:
    """Tasks, names of models and what was proved of runs, each once for a whole sweep.

    Args:
        data: the data folder, as for :func:`idim.tasks.load`.
    """

    def __init__(self, data: Path | None) -> None:
        self._data = data
        self._tasks: dict[str, Task] = {}
        self._models: dict[str, str] = {}
        self._projections: dict[str, str] = {}
        self._layouts: dict[tuple[Any, ...], Layout] = {}
        self._proved: set[tuple[Any, ...]] = set()

    def task(self, name: str) -> Task:
        """Return a task.

        Raises:
            RequestError: when it cannot be loaded.
        """
        if name not in self._tasks:
            self._tasks[name] = tasks.load(name, data=self._data)
        return self._tasks[name]

    def model(self, name: str) -> str:
        """Return the name under which a model's runs are kept.

        Raises:
            RequestError: when a file or folder is missing.
        """
        if name not in self._models:
            self._models[name] = models.resolve(name)
        return self._models[name]

    def projection(self, name: str | None) -> str | None:
        """Return the name under which runs with a projection are kept.

        Raises:
            RequestError: for an unknown kind, or a file that is missing.
        """
        if name is not None and name not in self._projections:
            self._projections[name] = projections.resolve(name)
        return None if name is None else self._projections[name]

    def check(self, spec: RunSpec) -> None:
        """Prove that a run can work.

        Raises:
            RequestError: when its network cannot be built for its task, there is no such P, or the method has no
                place on the network.
        """
        layout = self._layout(spec)
        proof = (spec.projection, spec.d, layout.D, layout.layers)
        if spec.projection is not None and spec.d is not None and proof not in self._proved:
            projections.create(spec.projection, D=layout.D, d=spec.d, seed=0, layers=layout.layers)
            self._proved.add(proof)
        if spec.method not in PLAIN:
            self._check_method(spec)

    def _check_method(self, spec: RunSpec) -> None:
        proof = (spec.method, spec.task, spec.model, spec.head)
        if proof not in self._proved:
            attached(spec, network(spec, self.task(spec.task), weights_folder(self._data)))
            self._proved.add(proof)

    def _layout(self, spec: RunSpec) -> Layout:
        """Return the layout of what P moves, or of all that trains; tokenises a text where the network reads texts."""
        recipe = spec.recipe
        question = (spec.task, spec.model, spec.head, recipe.precision, recipe.dropout, recipe.length)
        if question not in self._layouts:
            task = self.task(spec.task)
            net = network(spec, task, weights_folder(self._data))
            self._layouts[question] = Layout.of(choose(net, exclude=() if spec.head == "inside" else HEAD).inside)
            check_texts(spec.model, task, recipe.length)
        return self._layouts[question]
