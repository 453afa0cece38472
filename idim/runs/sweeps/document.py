"""The YAML of a sweep as flat sections, every value with the place it was read from.

A section is what spans one grid: its keys are the fields of a run, ``recipe.steps`` and its like for those
of a mapping inside. A mapping of the file says more in three ways:

- ``include``: other files, relative to this one; their keys hold where this mapping has none of its own;
- ``recipe`` and ``resources``: mappings, merged field by field;
- ``grids``: a list of mappings, each a grid of its own that inherits the keys beside ``grids``.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from idim.errors import RequestError, unknown

MOST_SECTIONS = 10_000
INNER = ("recipe", "resources")
STRUCTURE = ("include", *INNER, "grids")


@dataclass(frozen=True)
class Entry:
    """A value of the file and where it was read."""

    value: Any
    where: str


Section = Mapping[str, Entry]


class Lined(dict[str, Any]):
    """A mapping of a YAML file that knows where it and its keys are."""

    where: str
    places: dict[str, str]


class _Short(reprlib.Repr):
    """Short forms of values: aliases can make a value of a small file very large when written out."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlist, self.maxdict = 2, 4, 3
        self.maxother, self.maxstring, self.maxlong = 60, 60, 40

    def repr_Lined(self, value: Lined, level: int) -> str:
        return self.repr_dict(value, level)


shown = _Short().repr


class _Loader(yaml.SafeLoader):
    """The safe loader, with places; a key that is given twice is an error."""

    file = ""

    def place(self, node: yaml.Node) -> str:
        return f"{self.file}, line {node.start_mark.line + 1}"

    def lined(self, node: yaml.MappingNode) -> Lined:
        own = [self._key(key) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for name, place in own:
            if sum(name == other for other, _ in own) > 1:
                raise RequestError(f"a key must be given once; received {name!r} again near {place}")
        self.flatten_mapping(node)
        content = Lined()
        content.where, content.places = self.place(node), dict(self._key(key) for key, _ in node.value)
        content.update((self._key(key)[0], self.construct_object(value, deep=True)) for key, value in node.value)
        return content

    def _key(self, node: yaml.Node) -> tuple[str, str]:
        name = self.construct_object(node, deep=True)
        if not isinstance(name, str):
            raise RequestError(f"{self.place(node)}: a key must be a word; received {shown(name)}")
        return name, self.place(node)


_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.lined)


def sections(path: Path, overrides: Sequence[str], fields: Iterable[str]) -> list[Section]:
    """Return the sections of a file, with the overrides (``KEY=VALUE``, VALUE in YAML) put over all of them.

    Args:
        path: the file.
        overrides: such as ``"task=mnist"`` or ``"recipe.steps=100"``.
        fields: the keys that a section may have, those of a mapping inside as ``recipe.NAME``.

    Raises:
        RequestError: for a file that cannot be read, an unknown key, or an override that is none.
    """
    known = frozenset(fields)
    asked: dict[str, Entry] = {}
    for text in overrides:
        asked |= _override(text, known)
    return [{**section, **asked} for section in _expand(_load(path), {}, known, (path.resolve(),))]


def _expand(mapping: Lined, shared: Section, known: frozenset[str], open_files: tuple[Path, ...]) -> list[Section]:
    """Return the sections of a mapping under what it inherits."""
    bases: list[Section] = [shared]
    for path in _included(mapping, open_files):
        inner = _expand(_load(path), {}, known, (*open_files, path))
        bases = _few([{**base, **section} for base in bases for section in inner], mapping)
    own = _own(mapping, known)
    bases = [{**base, **own} for base in bases]
    if "grids" not in mapping:
        return bases
    grids = [_mapping(grid, mapping.places["grids"], "every grid") for grid in _listed(mapping, "grids")]
    return _few([s for base in bases for grid in grids for s in _expand(grid, base, known, open_files)], mapping)


def _few(found: list[Section], mapping: Lined) -> list[Section]:
    if len(found) > MOST_SECTIONS:
        raise RequestError(f"{mapping.where}: a sweep takes at most {MOST_SECTIONS:,} grids; received {len(found):,}")
    return found


def _included(mapping: Lined, open_files: tuple[Path, ...]) -> list[Path]:
    names = mapping.get("include", [])
    paths = []
    for name in [names] if isinstance(names, str) else _listed(mapping, "include"):
        place = mapping.places["include"]
        if not isinstance(name, str):
            raise RequestError(f"{place}: include takes names of files; received {shown(name)}")
        path = (open_files[-1].parent / name).resolve()
        if path in open_files:
            raise RequestError(f"{place}: a file must not include itself; received {name!r}")
        if not path.is_file():
            raise RequestError(f"{place}: an included file must exist; received {name!r}, looked for at {path}")
        paths.append(path)
    return paths


def _own(mapping: Lined, known: frozenset[str]) -> dict[str, Entry]:
    """Return the mapping's own fields, those of mappings inside by their dotted names."""
    own: dict[str, Entry] = {}
    plain = sorted(name for name in known if "." not in name)
    for name, value in mapping.items():
        if name in INNER:
            own |= _inner(name, value, mapping.places[name], known)
        elif name in known and "." not in name:
            own[name] = Entry(value, mapping.places[name])
        elif name not in STRUCTURE:
            raise _at(mapping.places[name], unknown("key", name, [*plain, *STRUCTURE]))
    return own


def _inner(name: str, value: object, place: str, known: frozenset[str]) -> dict[str, Entry]:
    inner = _mapping(value, place, name)
    fields = [field.removeprefix(f"{name}.") for field in known if field.startswith(f"{name}.")]
    for field in inner:
        if field not in fields:
            raise _at(inner.places[field], unknown(f"key of {name}", field, fields))
    return {f"{name}.{field}": Entry(content, inner.places[field]) for field, content in inner.items()}


def _override(text: str, known: frozenset[str]) -> dict[str, Entry]:
    name, equals, value = text.partition("=")
    if not equals:
        raise RequestError(f"--set takes KEY=VALUE, such as task=mnist or recipe.steps=100; received {text!r}")
    if name not in known:
        raise _at("--set", unknown("key", name, known))
    return {name: Entry(_parse(value.encode(), f"--set {name}"), f"--set {text}")}


def _load(path: Path) -> Lined:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise RequestError(f"a sweep is a YAML file; received {path}: {error.strerror}") from error
    return _mapping(_parse(text, str(path)), str(path), "a sweep")


def _parse(text: bytes, file: str) -> object:
    loader = type("Loader", (_Loader,), {"file": file})
    try:
        return yaml.load(text, Loader=loader)
    except RequestError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date such as 2020-13-45
        mark = getattr(error, "problem_mark", None)
        place = file if mark is None else f"{file}, line {mark.line + 1}"
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise RequestError(f"{place}: must be YAML; received what it cannot be: {problem}") from error


def _mapping(value: object, place: str, what: str) -> Lined:
    if not isinstance(value, Lined):
        raise RequestError(f"{place}: {what} must be a mapping of keys to values; received {shown(value)}")
    return value


def _listed(mapping: Lined, name: str) -> list[Any]:
    value = mapping.get(name, [])
    if not isinstance(value, list) or (name in mapping and not value):
        raise RequestError(f"{mapping.places[name]}: {name} must be a list that is not empty; received {shown(value)}")
    return value


def _at(place: str, error: RequestError) -> RequestError:
    return RequestError(f"{place}: {error}")
