"""Names of one model in the words of another: one prefix, taken away or put before.

Wrappers rename a model as a whole: ``BertModel`` says ``encoder.layer.0...``, and inside a classifier the
same tensor is ``bert.encoder.layer.0...``. The change of prefix that maps the most names is taken, where
it maps more of them than have their own name in the base; names that it does not map keep their own.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Renaming:
    """From tuned names to base names: ``taken`` at the beginning becomes ``put``."""

    taken: str = ""
    put: str = ""

    def __call__(self, name: str) -> str:
        """Return the base's name for a tuned name."""
        return self.put + name.removeprefix(self.taken) if self.moves(name) else name

    def moves(self, name: str) -> bool:
        """Say whether the change applies to a name; no change applies to every name."""
        return name.startswith(self.taken)

    def __str__(self) -> str:
        """Return the change in words; empty where nothing changes."""
        if not self.taken and not self.put:
            return ""
        return f"names of the tuned model that begin with {self.taken!r} begin with {self.put!r} in the base"


def find_renaming(tuned: Collection[str], base: Collection[str]) -> Renaming:
    """Return the change of one prefix that gives the most tuned names a name in the base."""
    known = set(base)
    votes = Counter(_prefixes(tuned, known))
    candidates = [Renaming(), *(Renaming(taken=taken, put=put) for (taken, put), _ in votes.most_common(8))]
    return max(candidates, key=lambda renaming: sum(renaming(name) in known for name in tuned if renaming.moves(name)))


def rename(tuned: Iterable[str], base: Collection[str], renaming: Renaming) -> dict[str, str]:
    """Return base name → tuned name, for the tuned names that have one: renamed, else as they stand."""
    known, names = set(base), list(tuned)
    exact = {name: name for name in names if name in known}
    return exact | {renaming(name): name for name in names if renaming(name) in known}


def _prefixes(tuned: Collection[str], base: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield, for each tuned name, the prefixes before the longest ending it shares with one base name alone."""
    owners: dict[str, str | None] = {}
    for prefix, ending in itertools.chain.from_iterable(map(_cuts, base)):
        owners[ending] = None if ending in owners else prefix
    for name in tuned:
        shared = next(((taken, put) for taken, e in _cuts(name) if (put := owners.get(e)) is not None), None)
        if shared is not None:
            yield shared


def _cuts(name: str) -> Iterator[tuple[str, str]]:
    """Yield (prefix, ending) for every cut after a dot, the longest ending first."""
    parts = name.split(".")
    for i in range(len(parts)):
        yield "".join(part + "." for part in parts[:i]), ".".join(parts[i:])
