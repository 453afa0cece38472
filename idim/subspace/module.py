r"""A model that trains in a subspace: :math:`\theta = \theta_0 + P z`.

A :class:`Subspace` holds its own copy of a model in which the chosen parameters are no longer
numbers of their own. They are rows of :math:`\theta_0 + P z`, where :math:`\theta_0` are the values
they had and P is a :class:`~idim.projections.Projection`. What trains is z, d numbers, and the
tensors that the user asks to train directly.

Memory per native parameter is theta0 and theta, and in the backward pass the gradient of one group
of tensors at a time; :mod:`idim.subspace.theta` says how. An optimizer sees z and the directly
trained tensors, and DistributedDataParallel reduces no more than those.

Sources: C. Li, H. Farkhoor, R. Liu, J. Yosinski, "Measuring the Intrinsic Dimension of Objective
Landscapes", 2018, arXiv:1804.08838; A. Aghajanyan, L. Zettlemoyer, S. Gupta, "Intrinsic
Dimensionality Explains the Effectiveness of Language Model Fine-Tuning", 2020, arXiv:2012.13255.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from idim import projections
from idim.errors import RequestError
from idim.parameters import Layout, Patterns, choose
from idim.projections import Projection
from idim.subspace import stored
from idim.subspace.hollow import Lifted, held_aliases, hollow
from idim.subspace.signature import ForwardOfModel
from idim.subspace.tables import ordinary
from idim.subspace.theta import Theta


class Subspace(nn.Module):
    """A copy of ``model`` with parameters theta0 + P z; call it as you call the model.

    Args:
        model: any module; it is copied, never changed.
        projection: a name ("hadamard", "layerwise:fastfood", ...) or a projection of D rows.
        d: number of subspace coordinates; not with a projection, which has its own.
        seed: names P among the projections of its kind.
        include: name patterns of the parameters inside the subspace.
        exclude: patterns of those that stay at their values, taken out of ``include``.
        train: patterns of those that are trained directly, outside P (fresh heads).

    Attributes:
        z: the coordinates, shape [d], float32 (float64 for a float64 model), zero at first.
        theta0: initial values of the parameters inside, flat, frozen: one tensor a dtype run.
        model: the copy; outside a call its own parameters are the trained and frozen ones.
        layout: names, shapes and rows of the parameters inside.
        projection: P.

    Parameters that the model has frozen (``requires_grad`` false) stay frozen. To free the memory
    of the original, let go of it: the Subspace shares no tensor with it. ``transformers.Trainer``
    reads label names from the class of a model; to evaluate, give it ``label_names=["labels"]``.

    Raises:
        RequestError: for a pattern that matches nothing, no float parameter left inside, d > D, an
            unknown projection, or a model that is scripted or spread over devices.
    """

    z: nn.Parameter
    forward = ForwardOfModel()

    def __init__(
        self,
        model: nn.Module,
        *,
        projection: str | Projection = "hadamard",
        d: int | None = None,
        seed: int = 0,
        include: Patterns = "*",
        exclude: Patterns = (),
        train: Patterns = (),
    ) -> None:
        super().__init__()
        _check_plain(model)
        selection = choose(model, include=include, exclude=exclude, train=train)
        self.patterns = {"include": _listed(include), "exclude": _listed(exclude), "train": _listed(train)}
        self.layout = Layout.of(selection.inside)
        self.projection = _resolved(projection, self.layout, d, seed).fitted(selection.inside)
        device = _only_device(selection.inside)
        self.z = nn.Parameter(self.projection.initial(_coordinate_dtype(self.layout)).to(device))
        self.theta0 = nn.ParameterList(
            nn.Parameter(flat, requires_grad=False) for flat in self.layout.flatten(selection.inside)
        )
        self._theta = Theta(self.layout, self.projection, self.z, self._theta0)
        self.model = hollow(model, selection, self._theta)
        self._trained = frozenset(selection.trained)
        self._excluded = tuple(name for name, p in selection.frozen.items() if p.requires_grad)
        self._first_buffers = {name: stored.digest({name: b}) for name, b in self._buffers_of_state().items()}
        self._aliases = held_aliases(selection)
        self.register_state_dict_post_hook(_leave_aliases_out)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_put_aliases_back)  # type: ignore[no-untyped-call]
        self.training = model.training

    @property
    def D(self) -> int:
        """Number of native parameters inside the subspace."""
        return self.projection.D

    @property
    def d(self) -> int:
        """Number of subspace coordinates."""
        return self.projection.d

    @property
    def _theta0(self) -> tuple[Tensor, ...]:
        return tuple(self.theta0._parameters.values())  # type: ignore[arg-type]  # iteration costs microseconds a call

    def answer(self, *args: Any, **kwargs: Any) -> Any:
        """Return the model's answer at theta0 + P z: what calling the Subspace does, hooks apart."""
        self._theta.bind(self.z, self._theta0)
        with self._theta:
            return self.model(*args, **kwargs)

    # -- values ---------------------------------------------------------------------------------

    def theta(self) -> dict[str, Tensor]:
        """Return a copy of theta0 + P z: tensors by name, without gradient."""
        self._theta.bind(self.z, self._theta0)
        return self.layout.unflatten([buffer.clone() for buffer in self._theta.whole()])

    def merged(self) -> nn.Module:
        """Return an ordinary model of the class of the original, with theta as its parameters."""
        tensors = {name: nn.Parameter(tensor) for name, tensor in self.theta().items()}
        memo: dict[int, Any] = {}
        with self._theta.hide():
            for module in self.model.modules():
                if isinstance(module._parameters, Lifted):
                    memo[id(module._parameters)] = self._plain(module._parameters, tensors, memo)
            model = ordinary(copy.deepcopy(self.model, memo))
        for name in self._excluded:
            model.get_parameter(name).requires_grad_(True)
        return model

    def _plain(self, lifted: Lifted, tensors: Mapping[str, Tensor], memo: dict[int, Any]) -> dict[str, Any]:
        names = self.layout.names
        return {
            leaf: tensors[names[lifted.index[leaf]]] if leaf in lifted.index else copy.deepcopy(lifted[leaf], memo)
            for leaf in lifted.names
        }

    # -- what a module tells others ---------------------------------------------------------------

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Yield what an optimizer should see: z, then the directly trained tensors.

        ``named_parameters`` also has theta0 and the frozen tensors, with ``requires_grad`` false:
        they are state, and some optimizers (LBFGS) spend memory on every tensor they are given.
        """
        return (p for p in super().parameters(recurse) if p is self.z or p.requires_grad)

    def get_extra_state(self) -> Tensor:
        """Return the projection's spec as JSON bytes, so that a ``state_dict`` says which P its z belongs to."""
        text = json.dumps(self.projection.spec, sort_keys=True)
        return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Refuse the z of another P.

        Raises:
            RequestError: when the state was saved under another projection.
        """
        saved = json.loads(bytes(state.cpu().tolist()).decode())
        own = json.loads(json.dumps(self.projection.spec))
        if saved != own:
            raise RequestError(f"the state must belong to the projection {own}; received one of {saved}")

    def extra_repr(self) -> str:
        """Return D, d and the projection."""
        return f"D={self.D}, d={self.d}, projection={self.projection}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        z, grad = self.z.detach(), self.z.grad
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.z.dtype in (torch.bfloat16, torch.float16):  # the model may be rounded, the coordinates are not
            self.z.data = z.to(self.z.device)
            self.z.grad = None if grad is None else grad.to(self.z)
        self._theta.forget()
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        with self._theta.hide():
            new = self.__class__.__new__(self.__class__)
            memo[id(self)] = new
            new.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return new

    # -- files ------------------------------------------------------------------------------------

    def save(self, folder: str | PathLike[str]) -> None:
        """Write z, the trained tensors, changed buffers, the projection's spec and a hash of the base.

        The base, theta0 and all that did not change, is not written, but the names of its tensors are.

        Raises:
            RequestError: when the folder is not writable.
        """
        changed = self._changed_buffers()
        kept = {"z": self.z} | {f"model.{name}": t for name, t in {**self._trained_tensors(), **changed}.items()}
        under = self._under(set(changed))
        names = {"inside": list(self.layout.names), "hashed": list(under)}
        record = {"projection": self.projection.spec, **self.patterns, "base": stored.digest(under), **names}
        stored.write(Path(folder), record, kept)

    @classmethod
    def load(cls, folder: str | PathLike[str], model: nn.Module) -> Subspace:
        """Return the saved subspace around ``model``, which must be the base it was trained from.

        Raises:
            RequestError: when the folder holds no saved subspace, or the base differs (both hashes).
        """
        record, tensors = stored.read(Path(folder))
        patterns = {name: record[name] for name in ("include", "exclude", "train")}
        space = cls(model, projection=projections.load(record["projection"]), **patterns)
        written = {name.removeprefix("model.") for name in tensors}
        if (base := stored.digest(space._under(written))) != record["base"]:
            raise RequestError(f"the model must be the base of {folder}, with hash {record['base']}; received {base}")
        space._take(tensors)
        return space

    def _take(self, tensors: Mapping[str, Tensor]) -> None:
        own = dict(self.named_parameters()) | dict(self.named_buffers())
        wanted = {"z"} | {f"model.{name}" for name in self._trained}
        if not wanted <= set(tensors) <= set(own):
            raise RequestError(f"the tensors must be {sorted(wanted)} and buffers; received {sorted(tensors)}")
        for name, tensor in tensors.items():
            if tensor.shape != own[name].shape:
                raise RequestError(
                    f"tensor {name!r} must have shape {list(own[name].shape)}; received {list(tensor.shape)}"
                )
            own[name].data.copy_(tensor)

    def _trained_tensors(self) -> dict[str, Tensor]:
        return {name: self.model.get_parameter(name) for name in self._trained}

    def _buffers_of_state(self) -> dict[str, Tensor]:
        buffers = dict(self.model.named_buffers())
        return {name: buffers[name] for name in self.model.state_dict(keep_vars=True) if name in buffers}

    def _changed_buffers(self) -> dict[str, Tensor]:
        buffers, first = self._buffers_of_state(), self._first_buffers
        return {name: b for name, b in buffers.items() if stored.digest({name: b}) != first.get(name)}

    def _under(self, written: set[str]) -> dict[str, Tensor]:
        """Return what the save stands on: theta0, and the tensors held that are neither trained nor written."""
        theta0 = self.layout.unflatten([t.detach() for t in self.theta0])
        held = dict(self.model.named_parameters()) | self._buffers_of_state()
        return theta0 | {n: t for n, t in held.items() if n not in written | self._trained}


def _leave_aliases_out(space: Subspace, state: dict[str, Any], prefix: str, _: object) -> None:
    """Keep each tied tensor once in a ``state_dict``: safetensors refuses tensors that share memory."""
    for alias in space._aliases:
        del state[prefix + alias]


def _put_aliases_back(space: Subspace, state: dict[str, Any], prefix: str, *_: object) -> None:
    for alias, name in space._aliases.items():
        if prefix + name in state:
            state.setdefault(prefix + alias, state[prefix + name])


def _check_plain(model: nn.Module) -> None:
    if any(isinstance(m, torch.jit.ScriptModule) for m in model.modules()):
        raise RequestError(f"the model must be ordinary Python modules; received a scripted {type(model).__name__}")


def _resolved(projection: str | Projection, layout: Layout, d: int | None, seed: int) -> Projection:
    if isinstance(projection, str):
        if d is None:
            raise RequestError(f"d must be given with a projection's name; received d = None for {projection!r}")
        return projections.create(projection, D=layout.D, d=d, seed=seed, layers=layout.layers)
    if projection.D != layout.D:
        raise RequestError(f"the projection must have D = {layout.D} rows, as the model; received D = {projection.D}")
    if d is not None and d != projection.d:
        raise RequestError(f"d must be that of the projection, {projection.d}; received d = {d}")
    return projection


def _only_device(tensors: Mapping[str, Tensor]) -> torch.device:
    devices = {t.device for t in tensors.values()}
    if len(devices) > 1:
        raise RequestError(f"the parameters must be on one device; received {sorted(map(str, devices))}")
    return devices.pop()


def _coordinate_dtype(layout: Layout) -> torch.dtype:
    return torch.float64 if torch.float64 in layout.dtypes else torch.float32


def _listed(patterns: Patterns) -> list[str]:
    return [patterns] if isinstance(patterns, str) else list(patterns)
