"""Several methods on one network at once: ``adapter+bitfit+prompt``.

Their changes add up in the network; it merges where all of them do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from idim.errors import RequestError
from idim.methods.base import Attached, CannotAttach, Group, Method, OwnRate, Setting

ORDER: tuple[Group, ...] = ("full", "specification", "reparameterisation", "addition")
"""Of attaching: what chooses among the network's own parameters must see them under their own names."""


class AttachedTogether(Attached):
    """Several methods on one network; the last attached is the first taken off."""

    def __init__(self, model: nn.Module, parts: Sequence[Attached]) -> None:
        super().__init__(model)
        self.parts = tuple(parts)

    def penalty(self) -> Tensor | None:
        """Return the sum of the parts' penalties."""
        penalties = [p for part in self.parts if (p := part.penalty()) is not None]
        return sum(penalties[1:], penalties[0]) if penalties else None

    def own_rates(self) -> Sequence[OwnRate]:
        """Return those of all parts."""
        return [rate for part in self.parts for rate in part.own_rates()]

    def after_step(self, step: int) -> None:
        """Tell every part."""
        for part in self.parts:
            part.after_step(step)

    def stored(self) -> dict[str, Tensor]:
        """Return those of all parts, each under the number of its part."""
        return {f"{i}.{name}": t for i, part in enumerate(self.parts) for name, t in part.stored().items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Give every part its own."""
        for i, part in enumerate(self.parts):
            mine = f"{i}."
            part.restore({n.removeprefix(mine): t for n, t in tensors.items() if n.startswith(mine)})

    def origin(self) -> dict[str, Tensor]:
        """Return those of all parts."""
        return {name: tensor for part in self.parts for name, tensor in part.origin().items()}

    def merge(self) -> nn.Module:
        """Merge every part."""
        for part in reversed(self.parts):
            part.merge()
        return self.module

    def detach(self) -> nn.Module:
        """Take every part off."""
        for part in reversed(self.parts):
            part.detach()
        return self.module


@dataclass(frozen=True, kw_only=True)
class Combined(Method):
    """Several methods at once.

    Args:
        parts: two or more, of different names.

    Raises:
        RequestError: when a method stands there twice.
    """

    name: ClassVar[str] = "combined"
    group: ClassVar[Group] = "addition"
    source: ClassVar[str] = "N. Ding et al., Delta Tuning, 2022, arXiv:2203.06904, section 4.3"

    parts: tuple[Method, ...] = ()

    def __post_init__(self) -> None:
        names = [part.name for part in self.parts]
        if len(set(names)) < len(names):
            raise RequestError(f"methods are combined once each; received {'+'.join(names)}")
        ordered = sorted(self.parts, key=lambda part: (ORDER.index(part.group), not part.through, part.name))
        object.__setattr__(self, "parts", tuple(ordered))

    @property
    def merges(self) -> bool:
        """Whether all parts merge."""
        return all(part.merges for part in self.parts)

    @property
    def through(self) -> bool:
        """Whether back-propagation passes through the network for any part."""
        return any(part.through for part in self.parts)

    def written(self) -> str:
        """Return the names of the parts, joined."""
        return "+".join(part.written() for part in self.parts)

    def attach(self, model: nn.Module, setting: Setting) -> Attached:
        """Attach one after the other; what is attached is taken off again when a later one cannot be."""
        done: list[Attached] = []
        try:
            for part in self.parts:
                done.append(part.attach(model, setting))
                if done[-1].module is not model:
                    raise CannotAttach(f"method {part.name!r} stands around the network: combine others, without it")
        except CannotAttach:
            for attached in reversed(done):
                attached.detach()
            raise
        return AttachedTogether(model, done)
