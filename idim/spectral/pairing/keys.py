"""Which keys of an adapter's file belong to which tensor of the base.

``base_model.model.`` and the wrappers' own words are taken off a key; what is left is a module of the model
and a part of the adapter, or the name of a whole tensor.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

from idim.spectral.pairing.renaming import find_renaming, rename
from idim.spectral.reading.sources import Skipped

PREFIX = "base_model.model."
WRAPPED = re.compile(r"\.(base_layer|original_module|modules_to_save(\.default)?)(?=\.)")
FACTOR = re.compile(r"^(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<part>[AB])(?:\.(?P<leaf>weight|bias))?$")
WEIGHTS = (".weight", ".in_proj_weight")  # the second: attention that keeps three weights in one
INSIDE_ATTENTION = ".base_layer.out_proj.lora_"
ONLY = "only in the adapter: it fits no tensor of the base"
Find = Callable[[str], str | None]


@dataclass(kw_only=True)
class Target:
    """A module of the model that has an adapter.

    Args:
        module: the module, in the adapter's words.
        name: the base's name of its weight.
        bias: the base's name of its bias, or None.
        embedding: whether the parts are those of an embedding.
        parts: keys in the file by part: "A", "B", "bias".
    """

    module: str
    name: str
    bias: str | None
    embedding: bool = False
    parts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Keys:
    """The keys of a file, sorted: modules with an adapter, whole tensors by the base's name, the rest with why.

    ``shared`` are the keys of tensors that lie beside the model, and that all its modules use.
    """

    targets: tuple[Target, ...]
    whole: dict[str, str]
    rest: dict[str, str]
    shared: tuple[str, ...] = ()

    def skipped(self) -> Iterator[Skipped]:
        """Yield what is not read."""
        for key, reason in self.rest.items():
            yield Skipped(name=key, reason=reason)


def sort_keys(keys: Collection[str], base: Collection[str] | None, *, factored: bool) -> Keys:
    """Sort the keys of an adapter's file by the tensors of the base, or by their own names without one.

    Args:
        keys: the names in the file.
        base: the names in the base, or None.
        factored: whether the adapter is plain LoRA, whose parts are known by name.
    """
    own = {key: WRAPPED.sub("", key.removeprefix(PREFIX)) for key in keys}
    find = _finder([name for key in own.values() for name in (key, *_weights(key), *_biases(key))], base)
    return _factored(own, find) if factored else _modular(own, find)


def _factored(own: dict[str, str], find: Find) -> Keys:
    targets: dict[str, Target] = {}
    whole: dict[str, str] = {}
    rest: dict[str, str] = {}
    for key, name in own.items():
        if INSIDE_ATTENTION in key:
            rest[key] = "peft 0.21 applies factors inside nn.MultiheadAttention twice: merge them and give the model"
            continue
        if not (found := FACTOR.match(name)):
            if known := find(name):
                whole[known] = key
            else:
                rest[key] = ONLY
            continue
        module = found["module"]
        if not (weight := _first(find, (module + ending for ending in WEIGHTS))):
            rest[key] = ONLY
            continue
        blank = Target(module=module, name=weight, bias=find(f"{module}.bias"), embedding=bool(found["embedding"]))
        targets.setdefault(module, blank).parts["bias" if found["leaf"] == "bias" else found["part"]] = key
    return Keys(targets=tuple(targets.values()), whole=whole, rest=rest)


def _modular(own: dict[str, str], find: Find) -> Keys:
    targets: dict[str, Target] = {}
    whole: dict[str, str] = {}
    rest: dict[str, str] = {}
    for key, name in own.items():
        if known := find(name):
            whole[known] = key
        elif weight := _first(find, _weights(name)):
            module = next(ending for ending in _modules(name) if find(f"{ending}.weight") == weight)
            blank = Target(module=module, name=weight, bias=find(f"{module}.bias"), embedding="lora_embedding_" in name)
            targets.setdefault(module, blank).parts[name.removeprefix(f"{module}.")] = key
        else:
            rest[key] = ONLY
    shared = tuple(key for key in rest if not key.startswith(PREFIX) and key.count(".") == 1)
    rest = {key: reason for key, reason in rest.items() if key not in shared}
    return Keys(targets=tuple(targets.values()), whole=whole, rest=rest, shared=shared)


def _modules(name: str) -> tuple[str, ...]:
    """Return the modules that a key can belong to: all but its last part, or its last two."""
    parts = name.split(".")
    return tuple(".".join(parts[:-cut]) for cut in (1, 2) if len(parts) > cut)


def _weights(name: str) -> tuple[str, ...]:
    return tuple(module + ending for module, ending in itertools.product(_modules(name), WEIGHTS))


def _biases(name: str) -> tuple[str, ...]:
    return tuple(f"{module}.bias" for module in _modules(name))


def _finder(names: Collection[str], base: Collection[str] | None) -> Find:
    """Return the base's name for a name of the adapter, or None; every name is known without a base."""
    if base is None:
        return lambda name: name
    found = {own: theirs for theirs, own in rename(names, base, find_renaming(names, base)).items()}
    return found.get


def _first(find: Find, names: Iterable[str]) -> str | None:
    return next(filter(None, map(find, names)), None)
