r"""Adapters that are no product of factors, merged by peft itself: one tensor at a time, over a hollow model.

The model is not built. In its place stands a tree of modules that has the adapted layers alone, under their
names, with weights that take no memory (one number, expanded). peft puts the adapter into the tree; to merge a
layer, a copy of it gets the real weight in float32, and :math:`\Delta` is merged minus base.

Only kinds whose merge depends on nothing but the layer and the adapter are read, each tested against
``merge_and_unload`` of the real model. What peft cannot merge has no weights to compare.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from idim.errors import RequestError
from idim.spectral.pairing.delta import Delta
from idim.spectral.pairing.keys import PREFIX, Keys, Target
from idim.spectral.pairing.matching import require_finite
from idim.spectral.pairing.shapes import views
from idim.spectral.reading.sources import Source

KINDS = frozenset(
    ("LORA", "ADALORA", "VERA", "IA3", "LOHA", "LOKR", "OFT", "BOFT", "FOURIERFT", "HRA", "RANDLORA", "VBLORA")
)
LIMITS = ("layers_to_transform", "layers_pattern", "exclude_modules", "modules_to_save", "task_type", "auto_mapping")


def check_kind(config: Mapping[str, Any], place: str) -> None:
    """Refuse an adapter that changes no weight, or that is not read here.

    Raises:
        RequestError: naming the kind.
    """
    kind = config.get("peft_type")
    if not isinstance(kind, str) or kind not in KINDS:
        known = ", ".join(sorted(KINDS))
        raise RequestError(
            f"the kind of an adapter must be one of {known}; received {kind!r} in {place}: "
            "where it changes weights, merge it with peft and give the model"
        )


class Merger:
    """An adapter over the layers that it changes, merged one at a time.

    Args:
        config: the adapter's configuration, as read.
        folder: where peft finds it.
        source: the adapter's tensors.
        base: the model's tensors.
        keys: the adapter's keys, sorted.
    """

    def __init__(self, config: Mapping[str, Any], folder: Path, source: Source, base: Source, keys: Keys) -> None:
        self.config, self.folder, self.source, self.base, self.keys = config, folder, source, base, keys
        self.kind = "DoRA" if config.get("use_dora") else str(config.get("peft_type"))

    @property
    def moves_biases(self) -> bool:
        """Whether merging changes biases too."""
        return self.kind == "IA3" or bool(self.config.get("lora_bias"))

    def weight(self, target: Target) -> Delta:
        """Return the change of a layer's weight.

        Raises:
            RequestError: when peft is missing, or cannot merge the layer.
        """
        base = require_finite(self.base.read(target.name), target.name, self.base.place)
        view = views(target.name, tuple(base.shape))[0]
        return Delta(
            name=target.name,
            shape=tuple(base.shape),
            matrix=view.matrix,
            reshaped=view.reshaped,
            base=view.of(base),
            tuned=view.of(self._layer(target, base).weight.data),
            made=f"merged by peft ({self.kind})",
        )

    def bias(self, target: Target, name: str) -> Delta:
        """Return the change of a layer's bias; its weight is read too.

        Raises:
            RequestError: as :meth:`weight`.
        """
        base, weight = (require_finite(self.base.read(n), n, self.base.place) for n in (name, target.name))
        tuned = self._layer(target, weight).bias.data
        made = f"merged by peft ({self.kind})"
        return Delta(name=name, shape=tuple(base.shape), matrix=None, base=base, tuned=tuned, made=made)

    def _layer(self, target: Target, weight: Tensor) -> Any:
        """Return the layer with its adapter merged into the real weight and bias, in float32."""
        try:
            layer: Any = copy.deepcopy(self._model.get_submodule(PREFIX + target.module))
            plain = layer.get_base_layer()
            plain.weight.data = weight.to(torch.float32, copy=True)
            if target.bias:
                plain.bias.data = self.base.read(target.bias).to(torch.float32, copy=True)
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                layer.merge(safe_merge=False, adapter_names=["default"])
        except Exception as error:  # peft's own, of any kind
            raise self._failed(error, target.module) from error
        require_finite(plain.weight.data, target.name, self.source.place)
        return plain

    @cached_property
    def _model(self) -> nn.Module:
        try:
            import peft
        except ImportError as error:
            raise RequestError(f"an adapter of kind {self.kind} needs peft; received {self.folder}") from error
        try:
            with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
                warnings.simplefilter("ignore")
                model = peft.get_peft_model(self._hollow(), self._configuration(peft))
                loaded: Any = peft.set_peft_model_state_dict(model, self._state())
        except RequestError:
            raise
        except Exception as error:
            raise self._failed(error, "the whole") from error
        missing = _never_loaded(model, loaded.missing_keys)
        if missing or loaded.unexpected_keys:
            fault = f"without {missing[0]!r}" if missing else f"with {loaded.unexpected_keys[0]!r}"
            raise RequestError(
                f"an adapter must have the tensors of its kind, {self.kind}; received {self.folder} {fault}"
            )
        return model  # type: ignore[no-any-return]

    def _failed(self, error: Exception, what: str) -> RequestError:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        return RequestError(f"peft must be able to merge {what} of the adapter; received {self.folder}: {reason}")

    def _configuration(self, peft: Any) -> Any:
        config = peft.PeftConfig.from_pretrained(str(self.folder))
        for name in LIMITS:
            if hasattr(config, name):
                setattr(config, name, None)
        config.target_modules = {target.module for target in self.keys.targets}
        config.inference_mode = False  # so that the adapter's own parameters can be told: they require gradients
        return config

    def _state(self) -> dict[str, Tensor]:
        parts = {key for target in self.keys.targets for key in target.parts.values()}
        return {key: self.source.read(key) for key in (*parts, *self.keys.shared)}

    def _hollow(self) -> nn.Module:
        tree = nn.Module()
        for target in self.keys.targets:
            *path, leaf = target.module.split(".")
            parent = tree
            for part in path:
                if part not in parent._modules:
                    parent.add_module(part, nn.Module())
                parent = parent.get_submodule(part)
            parent.add_module(leaf, self._blank(target))
        return tree

    def _blank(self, target: Target) -> nn.Module:
        """Return a layer of the right class and shape whose weight is one number, expanded."""
        shape = self.base.entries[target.name].shape
        layer: Any = _layer_of(shape, embedding=target.embedding, swapped=bool(self.config.get("fan_in_fan_out")))
        layer.weight = nn.Parameter(torch.ones(()).expand(shape), requires_grad=False)
        if not target.embedding:
            sizes = None if target.bias is None else self.base.entries[target.bias].shape
            layer.bias = None if sizes is None else nn.Parameter(torch.zeros(sizes), requires_grad=False)
        return layer  # type: ignore[no-any-return]


def _never_loaded(model: nn.Module, missing: Collection[str]) -> list[str]:
    """Return the adapter's own parameters that no key of the file has set, under any of their names."""
    own = [(name, p) for name, p in model.named_parameters(remove_duplicate=False) if p.requires_grad]
    loaded = {id(parameter) for name, parameter in own if name not in missing}
    return [name for name, parameter in own if id(parameter) not in loaded]


def _layer_of(shape: tuple[int, ...], *, embedding: bool, swapped: bool) -> nn.Module:
    if embedding and len(shape) == 2:
        return nn.Embedding(*shape, device="meta")
    if len(shape) == 2 and swapped:
        from transformers.pytorch_utils import Conv1D

        with torch.device("meta"):
            return Conv1D(shape[1], shape[0])  # type: ignore[no-untyped-call]
    if len(shape) == 2:
        return nn.Linear(shape[1], shape[0], device="meta")
    if len(shape) == 4:
        return nn.Conv2d(shape[1], shape[0], kernel_size=(shape[2], shape[3]), device="meta")
    raise RequestError(f"an adapter must change a linear layer, a convolution or an embedding; received shape {shape}")
