"""A PEFT adapter folder as a change of its base.

Plain LoRA is read here, as exact factors (:mod:`idim.spectral.pairing.lora`). DoRA and the other kinds that merge
into weights go through peft's own merge (:mod:`idim.spectral.pairing.merging`). Whole tensors in the adapter
(``modules_to_save``, trained biases, resized embeddings) are compared as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path

import torch

from idim.errors import RequestError
from idim.spectral.pairing import lora
from idim.spectral.pairing.changes import Change, Load, Paired
from idim.spectral.pairing.delta import Delta
from idim.spectral.pairing.keys import Keys, Target, sort_keys
from idim.spectral.pairing.matching import pair_named, require_finite
from idim.spectral.pairing.merging import Merger, check_kind
from idim.spectral.pairing.shapes import views
from idim.spectral.reading.folders import open_files, read_json
from idim.spectral.reading.sources import Skipped, Source

CONFIG = "adapter_config.json"
FILES = ("adapter_model.safetensors", "adapter_model.bin")


def is_adapter(folder: Path) -> bool:
    """Say whether a folder holds a PEFT adapter."""
    return (folder / CONFIG).is_file()


class Adapter(Change):
    """The change that a PEFT adapter makes to its base; plain LoRA is known without the base.

    Raises:
        RequestError: for a damaged adapter, one without its tensors, or a kind that is not read.
    """

    def __init__(self, folder: Path, place: str, *, pickle: bool = False) -> None:
        self.place, self.folder = place, folder
        self.config = read_json(folder / CONFIG)
        self.plain = self.config.get("peft_type") == "LORA" and not self.config.get("use_dora")
        check_kind(self.config, place)
        if self.config.get("peft_type") == "LORA":
            lora.check_plain(self.config, place)
        file = next((folder / name for name in FILES if (folder / name).is_file()), None)
        if file is None:
            raise RequestError(f"an adapter must have its tensors, {FILES[0]}; received {place} without")
        self.source = open_files(file, place, pickle=pickle)
        self.needs_base = not self.plain

    @cached_property
    def fingerprint(self) -> str:
        """The fingerprint of the adapter's tensors, and its configuration."""
        return f"{self.source.fingerprint} {json.dumps(self.config, sort_keys=True)}"

    def pair(self, base: Source | None) -> Paired:
        """Find the tensors of the base that the adapter changes.

        Raises:
            RequestError: when none of them is in the base.
        """
        keys = sort_keys(self.source.entries, None if base is None else base.entries, factored=self.plain)
        if not keys.targets:
            against = "" if base is None else f" of {base.place}, with {len(base.entries)} tensors"
            raise RequestError(f"an adapter must change weights{against}; received {self.place}, which changes none")
        loads = self._factored(base, keys) if self.plain or base is None else self._merged(base, keys)
        whole, skipped = self._whole(base, keys)
        return Paired(loads=whole | loads, skipped=(*keys.skipped(), *skipped, *_outside(base, {*loads, *whole})))

    # -- whole tensors ----------------------------------------------------------------------------

    def _whole(self, base: Source | None, keys: Keys) -> tuple[dict[str, Load], list[Skipped]]:
        if base is None:
            return {}, [Skipped(name=name, reason="a whole tensor, without its base") for name in keys.whole]
        adapted = {target.name for target in keys.targets}
        copies = {name: key for name, key in keys.whole.items() if name in adapted}
        skipped = [
            Skipped(name=f"{name} (whole)", reason="the adapter replaces this weight too: only its factors are read")
            for name, key in copies.items()
            if not torch.equal(base.read(name), self.source.read(key))
        ]
        matches = pair_named({name: key for name, key in keys.whole.items() if name not in copies}, base, self.source)
        return matches.loads(base, self.source), [*matches.skipped, *skipped]

    # -- LoRA ---------------------------------------------------------------------------------------

    def _factored(self, base: Source | None, keys: Keys) -> dict[str, Load]:
        loads: dict[str, Load] = {}
        for target in keys.targets:
            loads[target.name] = partial(self._weight, base, target)
            if "bias" in target.parts and target.bias and base is not None:
                loads[target.bias] = partial(self._bias, base, target, target.bias)
        return loads

    def _weight(self, base: Source | None, target: Target) -> Delta:
        if missing := {"A", "B"} - target.parts.keys():
            raise RequestError(f"an adapter has lora_A and lora_B; received {target.module!r} without {missing.pop()}")
        rank, scale = lora.Scales(config=self.config).of(target.module)
        a, b = (require_finite(self.source.read(target.parts[part]), target.parts[part], self.place) for part in "AB")
        if a.shape[0] != rank:
            raise RequestError(f"{CONFIG} must give the rank of {target.module!r}, {a.shape[0]}; received {rank}")
        weight = None if base is None else require_finite(base.read(target.name), target.name, base.place)
        stored = lora.stored_shape(a, b, target.embedding) if weight is None else tuple(weight.shape)
        view = views(target.name, stored)[0]
        if view.matrix is None or view.index is not None:
            raise RequestError(f"an adapter must change a matrix; received {target.name!r} of shape {stored}")
        swapped = bool(self.config.get("fan_in_fan_out"))
        return Delta(
            name=target.name,
            shape=stored,
            matrix=view.matrix,
            reshaped=view.reshaped,
            base=None if weight is None else view.of(weight),
            factors=lora.factors(a, b, scale, embedding=target.embedding, matrix=view.matrix, swapped=swapped),
            made=f"LoRA, r = {rank}, scale {scale:.6g}",
        )

    def _bias(self, base: Source, target: Target, name: str) -> Delta:
        _, scale = lora.Scales(config=self.config).of(target.module)
        bias = require_finite(base.read(name), name, base.place)
        change = require_finite(self.source.read(target.parts["bias"]), target.parts["bias"], self.place)
        tuned = bias.float() + scale * change.float()
        return Delta(name=name, shape=tuple(bias.shape), matrix=None, base=bias, tuned=tuned, made="LoRA's bias")

    # -- other kinds ----------------------------------------------------------------------------------

    def _merged(self, base: Source, keys: Keys) -> dict[str, Load]:
        merger = Merger(self.config, self.folder, self.source, base, keys)
        loads: dict[str, Load] = {}
        for target in keys.targets:
            loads[target.name] = partial(merger.weight, target)
            if target.bias and merger.moves_biases:
                loads[target.bias] = partial(merger.bias, target, target.bias)
        return loads


def _outside(base: Source | None, changed: set[str]) -> Iterator[Skipped]:
    if base is not None and (rest := len(base.entries.keys() - changed)):
        yield Skipped(name="*", reason=f"{rest} tensors of the base are outside the adapter, unchanged")
