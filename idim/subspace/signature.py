"""``forward`` with the signature of the model inside, which tools read to choose what to pass.

``transformers.Trainer`` drops the columns of a batch that ``forward`` does not name, and passes more
to a ``forward`` that takes any keyword.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from idim.subspace.module import Subspace


class ForwardOfModel:
    """Descriptor: on an instance, a callable that runs ``answer`` and shows the model's signature."""

    def __get__(self, space: Subspace | None, owner: type[Subspace]) -> Any:
        return owner.answer if space is None else _Bound(space)


class _Bound:
    def __init__(self, space: Subspace) -> None:
        self.space = space

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.space.answer(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.space.model.forward)
